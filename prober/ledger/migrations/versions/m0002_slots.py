"""What scheduled scenarios need: the newest slot of each, and whether launching is stopped."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the two tables."""
    op.create_table(
        "schedules",
        sa.Column("location", sa.String(length=64), nullable=False),
        sa.Column("scenario", sa.String(length=64), nullable=False),
        sa.Column("last_slot", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("location", "scenario"),
    )
    op.create_table(
        "launching",
        sa.Column("location", sa.String(length=64), nullable=False),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.Column("trial_at", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("location"),
    )
