"""Control messages as evidence of a provider's share; bounds on clocks that age; trouble with pushes."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add ``controls``, and what readers are told of clocks and observers."""
    op.create_table(
        "controls",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("location", sa.String(length=64), nullable=False),
        sa.Column("identity", sa.String(length=400), nullable=False),
        sa.Column("channel", sa.String(length=64), nullable=False),
        sa.Column("message_id", sa.String(length=300), nullable=False),
        sa.Column("stamp_at", sa.Float(precision=53), nullable=False),
        sa.Column("stamp_resolution", sa.Float(precision=53), nullable=False),
        sa.Column("stamp_source", sa.String(length=100), nullable=False),
        sa.Column("how", sa.String(length=16), nullable=False),
        *(column for name in ("sent", "answered", "lower", "seen") for column in _instant(name)),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("location", "identity", "message_id", name="control_identity"),
    )
    op.create_index("controls_by_time", "controls", ["location", "identity", "sent_wall"])
    op.execute("DELETE FROM offsets")  # when they held is not on record: the next control message bounds anew
    with op.batch_alter_table("offsets") as table:
        table.add_column(sa.Column("at_boottime", sa.Float(precision=53), nullable=False))
        table.add_column(sa.Column("since_boottime", sa.Float(precision=53), nullable=True))
        table.add_column(sa.Column("stepped_at", sa.Float(precision=53), nullable=True))
        table.add_column(sa.Column("step", sa.Float(precision=53), nullable=True))
    with op.batch_alter_table("observers") as table:
        table.add_column(sa.Column("trouble", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("reads_per_minute", sa.Float(precision=53), nullable=True))


def _instant(name: str) -> tuple["sa.Column[Any]", ...]:
    return (
        sa.Column(f"{name}_wall", sa.Float(precision=53), nullable=True),
        sa.Column(f"{name}_boottime", sa.Float(precision=53), nullable=True),
        sa.Column(f"{name}_boot_id", sa.String(length=16), nullable=True),
    )
