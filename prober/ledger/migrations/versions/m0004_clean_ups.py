"""What is swept: clean-ups, and what they are planned from.

What was on record before stays untouched: its messages are found by their markers.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the table, two columns and their indexes."""
    op.add_column("probes", sa.Column("swept", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("sightings", sa.Column("sweep", sa.Integer(), nullable=False, server_default="0"))
    op.execute("UPDATE probes SET swept = 1")
    op.create_table(
        "clean_ups",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("location", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("identity", sa.String(length=400), nullable=False),
        sa.Column("channel", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=300), nullable=False),
        sa.Column("probe_id", sa.String(length=32), nullable=False),
        sa.Column("due", sa.Float(precision=53), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("result", sa.String(length=16), nullable=False),
        sa.Column("ended", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("location", "identity", "subject", name="clean_up_identity"),
    )
    op.create_index(op.f("ix_clean_ups_probe_id"), "clean_ups", ["probe_id"], unique=False)
    op.create_index("probes_planned", "probes", ["location", "planned_wall"], unique=False)
    _partial("probes_unswept", "probes", ["location", "planned_wall"], "swept = 0")
    _partial("sightings_unswept", "sightings", ["location", "id"], "sweep = 1")
    _partial("clean_ups_open", "clean_ups", ["location", "due"], "result = ''")


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, unique=False, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
