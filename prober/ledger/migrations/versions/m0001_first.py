"""The first schema, frozen: a later change is a migration of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table."""
    _coverage()
    _environment()
    _observers()
    _offsets()
    _probes()
    _sightings()
    _totals()
    _totals_hourly()
    _candidates()
    _deliveries()
    _held()
    _keys()
    _steps()
    _waypoints()


def _coverage() -> None:
    op.create_table(
        "coverage",
        sa.Column("location", sa.String(length=64), nullable=False),
        sa.Column("identity", sa.String(length=400), nullable=False),
        sa.Column("channel", sa.String(length=64), nullable=False),
        sa.Column("blind_reason", sa.String(length=64), nullable=False),
        sa.Column("blind_detail", sa.Text(), nullable=False),
        sa.Column("since_wall", sa.Float(precision=53), nullable=True),
        sa.Column("since_boottime", sa.Float(precision=53), nullable=True),
        sa.Column("since_boot_id", sa.String(length=16), nullable=True),
        sa.Column("watermark_wall", sa.Float(precision=53), nullable=True),
        sa.Column("watermark_boottime", sa.Float(precision=53), nullable=True),
        sa.Column("watermark_boot_id", sa.String(length=16), nullable=True),
        sa.Column("failed_read_wall", sa.Float(precision=53), nullable=True),
        sa.Column("failed_read_boottime", sa.Float(precision=53), nullable=True),
        sa.Column("failed_read_boot_id", sa.String(length=16), nullable=True),
        sa.PrimaryKeyConstraint("location", "identity"),
    )


def _environment() -> None:
    op.create_table(
        "environment", sa.Column("name", sa.String(length=64), nullable=False), sa.PrimaryKeyConstraint("name")
    )


def _observers() -> None:
    op.create_table(
        "observers",
        sa.Column("location", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=True),
        sa.Column("blind_reason", sa.String(length=64), nullable=False),
        sa.Column("blind_detail", sa.Text(), nullable=False),
        sa.Column("blind_since_wall", sa.Float(precision=53), nullable=True),
        sa.Column("blind_since_boottime", sa.Float(precision=53), nullable=True),
        sa.Column("blind_since_boot_id", sa.String(length=16), nullable=True),
        sa.Column("failed_read_wall", sa.Float(precision=53), nullable=True),
        sa.Column("failed_read_boottime", sa.Float(precision=53), nullable=True),
        sa.Column("failed_read_boot_id", sa.String(length=16), nullable=True),
        sa.PrimaryKeyConstraint("location", "name"),
    )


def _offsets() -> None:
    op.create_table(
        "offsets",
        sa.Column("location", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=100), nullable=False),
        sa.Column("boot_id", sa.String(length=16), nullable=False),
        sa.Column("lower", sa.Float(precision=53), nullable=False),
        sa.Column("upper", sa.Float(precision=53), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("location", "source", "boot_id"),
    )


def _probes() -> None:
    op.create_table(
        "probes",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("location", sa.String(length=64), nullable=False),
        sa.Column("scenario", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("slot", sa.Float(precision=53), nullable=False),
        sa.Column("run", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("trace_id", sa.String(length=32), nullable=False),
        sa.Column("publication", sa.Text(), nullable=False),
        sa.Column("planned_wall", sa.Float(precision=53), nullable=True),
        sa.Column("planned_boottime", sa.Float(precision=53), nullable=True),
        sa.Column("planned_boot_id", sa.String(length=16), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("location", "scenario", "run", "slot", "number", name="probe_identity"),
    )


def _sightings() -> None:
    op.create_table(
        "sightings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("location", sa.String(length=64), nullable=False),
        sa.Column("identity", sa.String(length=400), nullable=False),
        sa.Column("channel", sa.String(length=64), nullable=False),
        sa.Column("message_id", sa.String(length=300), nullable=False),
        sa.Column("fingerprint", sa.String(length=300), nullable=False),
        sa.Column("delivery_id", sa.Integer(), nullable=False),
        sa.Column("how", sa.String(length=16), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("stray", sa.String(length=16), nullable=True),
        sa.Column("misplaced", sa.Integer(), nullable=False),
        sa.Column("checks_failed", sa.Text(), nullable=False),
        sa.Column("sender", sa.String(length=320), nullable=False),
        sa.Column("stamp_at", sa.Float(precision=53), nullable=True),
        sa.Column("stamp_resolution", sa.Float(precision=53), nullable=True),
        sa.Column("stamp_source", sa.String(length=100), nullable=True),
        sa.Column("lower_wall", sa.Float(precision=53), nullable=True),
        sa.Column("lower_boottime", sa.Float(precision=53), nullable=True),
        sa.Column("lower_boot_id", sa.String(length=16), nullable=True),
        sa.Column("upper_wall", sa.Float(precision=53), nullable=True),
        sa.Column("upper_boottime", sa.Float(precision=53), nullable=True),
        sa.Column("upper_boot_id", sa.String(length=16), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("location", "identity", "message_id", "delivery_id", name="sighting_identity"),
    )
    op.create_index("sightings_by_delivery", "sightings", ["delivery_id"], unique=False)
    op.create_index("sightings_by_fingerprint", "sightings", ["identity", "fingerprint"], unique=False)


def _totals() -> None:
    op.create_table(
        "totals",
        sa.Column("location", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("labels", sa.String(length=400), nullable=False),
        sa.Column("value", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("location", "name", "labels"),
    )


def _totals_hourly() -> None:
    op.create_table(
        "totals_hourly",
        sa.Column("location", sa.String(length=64), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("labels", sa.String(length=400), nullable=False),
        sa.Column("value", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("location", "hour", "name", "labels"),
    )


def _candidates() -> None:
    op.create_table(
        "candidates",
        sa.Column("value", sa.String(length=200), nullable=False),
        sa.Column("sighting_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sighting_id"],
            ["sightings.id"],
        ),
        sa.PrimaryKeyConstraint("value", "sighting_id"),
    )
    op.create_index(op.f("ix_candidates_sighting_id"), "candidates", ["sighting_id"], unique=False)


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("probe_id", sa.String(length=32), nullable=False),
        sa.Column("location", sa.String(length=64), nullable=False),
        sa.Column("scenario", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("channel", sa.String(length=64), nullable=False),
        sa.Column("channel_kind", sa.String(length=16), nullable=False),
        sa.Column("identity", sa.String(length=400), nullable=False),
        sa.Column("observer", sa.String(length=64), nullable=False),
        sa.Column("senders", sa.Text(), nullable=False),
        sa.Column("within", sa.Float(precision=53), nullable=False),
        sa.Column("give_up", sa.Float(precision=53), nullable=False),
        sa.Column("arrive", sa.String(length=16), nullable=False),
        sa.Column("scheduled_time", sa.Float(precision=53), nullable=True),
        sa.Column("checks", sa.Text(), nullable=False),
        sa.Column("step_number", sa.Integer(), nullable=False),
        sa.Column("stop_step", sa.Integer(), nullable=True),
        sa.Column("open", sa.Integer(), nullable=False),
        sa.Column("dirty", sa.Integer(), nullable=False),
        sa.Column("due_wall", sa.Float(precision=53), nullable=True),
        sa.Column("due_boottime", sa.Float(precision=53), nullable=True),
        sa.Column("due_boot_id", sa.String(length=16), nullable=True),
        sa.Column("timeliness", sa.String(length=16), nullable=True),
        sa.Column("timeliness_reason", sa.Text(), nullable=False),
        sa.Column("timeliness_at", sa.Float(precision=53), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("outcome_reason", sa.Text(), nullable=False),
        sa.Column("outcome_at", sa.Float(precision=53), nullable=True),
        sa.Column("latency_lower", sa.Float(precision=53), nullable=True),
        sa.Column("latency_upper", sa.Float(precision=53), nullable=True),
        sa.Column("latency_basis", sa.String(length=64), nullable=False),
        sa.Column("copies", sa.Integer(), nullable=False),
        sa.Column("sighting_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["probe_id"],
            ["probes.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("probe_id", "channel", name="delivery_identity"),
    )
    op.create_index(
        "deliveries_awaited",
        "deliveries",
        ["location", "observer", "due_boot_id", "due_boottime"],
        unique=False,
        sqlite_where=sa.text("open = 1"),
        postgresql_where=sa.text("open = 1"),
    )
    op.create_index(
        "deliveries_dirty",
        "deliveries",
        ["location"],
        unique=False,
        sqlite_where=sa.text("dirty = 1"),
        postgresql_where=sa.text("dirty = 1"),
    )
    op.create_index(
        "deliveries_due",
        "deliveries",
        ["location", "due_boot_id", "due_boottime"],
        unique=False,
        sqlite_where=sa.text("open = 1 AND dirty = 0"),
        postgresql_where=sa.text("open = 1 AND dirty = 0"),
    )
    op.create_index(
        "deliveries_open_identity",
        "deliveries",
        ["identity"],
        unique=False,
        sqlite_where=sa.text("open = 1"),
        postgresql_where=sa.text("open = 1"),
    )
    op.create_index(
        "deliveries_overdue",
        "deliveries",
        ["location", "identity"],
        unique=False,
        sqlite_where=sa.text("open = 1 AND dirty = 2"),
        postgresql_where=sa.text("open = 1 AND dirty = 2"),
    )
    op.create_index(op.f("ix_deliveries_probe_id"), "deliveries", ["probe_id"], unique=False)


def _held() -> None:
    op.create_table(
        "held",
        sa.Column("sighting_id", sa.Integer(), nullable=False),
        sa.Column("texts", sa.Text(), nullable=False),
        sa.Column("until_wall", sa.Float(precision=53), nullable=True),
        sa.Column("until_boottime", sa.Float(precision=53), nullable=True),
        sa.Column("until_boot_id", sa.String(length=16), nullable=True),
        sa.ForeignKeyConstraint(
            ["sighting_id"],
            ["sightings.id"],
        ),
        sa.PrimaryKeyConstraint("sighting_id"),
    )


def _keys() -> None:
    op.create_table(
        "keys",
        sa.Column("value", sa.String(length=200), nullable=False),
        sa.Column("probe_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("channel", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["probe_id"],
            ["probes.id"],
        ),
        sa.PrimaryKeyConstraint("value", "probe_id"),
    )


def _steps() -> None:
    op.create_table(
        "steps",
        sa.Column("probe_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("location", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("recipient", sa.String(length=320), nullable=False),
        sa.Column("after_step", sa.Integer(), nullable=True),
        sa.Column("publication_id", sa.String(length=64), nullable=False),
        sa.Column("late_after", sa.Float(precision=53), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("taken_by", sa.String(length=80), nullable=False),
        sa.Column("result", sa.String(length=16), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("correlation_id", sa.String(length=200), nullable=False),
        sa.Column("due_wall", sa.Float(precision=53), nullable=True),
        sa.Column("due_boottime", sa.Float(precision=53), nullable=True),
        sa.Column("due_boot_id", sa.String(length=16), nullable=True),
        sa.Column("taken_wall", sa.Float(precision=53), nullable=True),
        sa.Column("taken_boottime", sa.Float(precision=53), nullable=True),
        sa.Column("taken_boot_id", sa.String(length=16), nullable=True),
        sa.Column("requested_wall", sa.Float(precision=53), nullable=True),
        sa.Column("requested_boottime", sa.Float(precision=53), nullable=True),
        sa.Column("requested_boot_id", sa.String(length=16), nullable=True),
        sa.Column("ended_wall", sa.Float(precision=53), nullable=True),
        sa.Column("ended_boottime", sa.Float(precision=53), nullable=True),
        sa.Column("ended_boot_id", sa.String(length=16), nullable=True),
        sa.ForeignKeyConstraint(
            ["probe_id"],
            ["probes.id"],
        ),
        sa.PrimaryKeyConstraint("probe_id", "number"),
    )
    op.create_index(
        "steps_unfinished",
        "steps",
        ["location", "state"],
        unique=False,
        sqlite_where=sa.text("state IN ('planned', 'taken')"),
        postgresql_where=sa.text("state IN ('planned', 'taken')"),
    )


def _waypoints() -> None:
    op.create_table(
        "waypoints",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("probe_id", sa.String(length=32), nullable=False),
        sa.Column("delivery_id", sa.Integer(), nullable=True),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("resolution", sa.Float(precision=53), nullable=False),
        sa.Column("source", sa.String(length=100), nullable=False),
        sa.ForeignKeyConstraint(
            ["probe_id"],
            ["probes.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_waypoints_probe_id"), "waypoints", ["probe_id"], unique=False)
