"""Which replica observes through which account."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Nobody holds anything yet."""
    op.create_table(
        "leases",
        sa.Column("location", sa.String(length=64), primary_key=True),
        sa.Column("observer", sa.String(length=64), primary_key=True),
        sa.Column("holder", sa.String(length=80), nullable=False),
        sa.Column("host", sa.String(length=253), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("beat", sa.Integer(), nullable=False),
    )
