"""What the source of a waypoint says of it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column; what is on record says nothing more."""
    op.add_column("waypoints", sa.Column("detail", sa.Text(), nullable=False, server_default=""))
