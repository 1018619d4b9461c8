"""What a step's request was, every other act on the world outside, and the probes whose traces are to be exported."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Steps that are on record have no request; what is settled already is not exported."""
    op.add_column("steps", sa.Column("request", sa.Text(), nullable=False, server_default=""))
    op.create_table(
        "untraced",
        sa.Column("probe_id", sa.String(length=32), sa.ForeignKey("probes.id"), primary_key=True),
        sa.Column("location", sa.String(length=64), nullable=False),
        sa.Column("settled", sa.Float(53), nullable=False),
        sa.Column("due", sa.Float(53), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
    )
    op.create_index("untraced_due", "untraced", ["location", "due"], unique=False)
    op.create_table(
        "acts",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("location", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("place", sa.String(length=400), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("probe_id", sa.String(length=32), nullable=False),
        sa.Column("taken_by", sa.String(length=80), nullable=False),
        sa.Column("began", sa.Float(53), nullable=False),
        sa.Column("ended", sa.Float(53)),
        sa.Column("answer", sa.Text(), nullable=False),
    )
    op.create_index("acts_by_time", "acts", ["location", "began"], unique=False)
    op.create_index("acts_of_probe", "acts", ["probe_id"], unique=False)
