"""What the status page needs: the newest deliveries that failed, however many good ones came since."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_FAILED = (
    "(outcome IN ('lost', 'damaged', 'misplaced', 'unwanted', 'refused', 'unanswered')"
    " OR timeliness IN ('overdue', 'early'))"
)


def upgrade() -> None:
    """Index them alone."""
    op.create_index(
        "deliveries_failed",
        "deliveries",
        ["location", "planned_wall"],
        unique=False,
        sqlite_where=sa.text(_FAILED),
        postgresql_where=sa.text(_FAILED),
    )
