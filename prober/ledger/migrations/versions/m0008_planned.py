"""What reports over a window need: when a delivery was planned, in the delivery itself and indexed."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column, fill it from the probes, index it."""
    op.add_column("deliveries", sa.Column("planned_wall", sa.Float(precision=53), nullable=False, server_default="0"))
    op.execute(
        "UPDATE deliveries SET planned_wall = (SELECT planned_wall FROM probes WHERE probes.id = deliveries.probe_id)"
    )
    op.create_index("deliveries_planned", "deliveries", ["planned_wall"], unique=False)
