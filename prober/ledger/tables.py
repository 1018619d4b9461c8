"""The ledger's tables as data. Instants are three columns: wall, boottime, boot id. Durations are seconds."""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Index, Integer, Table, UniqueConstraint, text

from prober.ledger.columns import String, Text, instant_columns, instant_of, instant_values, metadata

__all__ = ["HEAD", "instant_columns", "instant_of", "instant_values", "metadata"]

HEAD = "0011"
"""The migration that this version writes; migrations/versions/ ends with it."""

probes = Table(
    "probes",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("location", String(64), nullable=False),
    Column("scenario", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("slot", Float(53), nullable=False),
    Column("run", String(32), nullable=False),  # empty for a scheduled probe
    Column("number", Integer, nullable=False),
    Column("trace_id", String(32), nullable=False),
    Column("publication", Text, nullable=False),  # JSON of model.Publication
    Column("swept", Integer, nullable=False, server_default="0"),  # 1: its clean-ups are planned
    *instant_columns("planned"),
    UniqueConstraint("location", "scenario", "run", "slot", "number", name="probe_identity"),
)
Index(
    "probes_unswept",
    probes.c.location,
    probes.c.planned_wall,
    sqlite_where=text("swept = 0"),
    postgresql_where=text("swept = 0"),
)
Index("probes_planned", probes.c.location, probes.c.planned_wall)

steps = Table(
    "steps",
    metadata,
    Column("probe_id", ForeignKey("probes.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("location", String(64), nullable=False),
    Column("action", String(16), nullable=False),
    Column("recipient", String(320), nullable=False),
    Column("after_step", Integer),  # waits for this step to be accepted, and for its publication id
    Column("publication_id", String(64), nullable=False),
    Column("late_after", Float(53), nullable=False),  # seconds after it was due
    Column("state", String(16), nullable=False),
    Column("taken_by", String(80), nullable=False),
    Column("result", String(16)),
    Column("status", Integer),
    Column("title", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("correlation_id", String(200), nullable=False),
    Column("request", Text, nullable=False, server_default=""),  # method and URL, on record before it leaves
    *instant_columns("due"),
    *instant_columns("taken"),
    *instant_columns("requested"),
    *instant_columns("ended"),
)
Index(
    "steps_unfinished",
    steps.c.location,
    steps.c.state,
    sqlite_where=text("state IN ('planned', 'taken')"),
    postgresql_where=text("state IN ('planned', 'taken')"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("probe_id", ForeignKey("probes.id"), nullable=False, index=True),
    Column("location", String(64), nullable=False),
    Column("scenario", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("channel", String(64), nullable=False),
    Column("channel_kind", String(16), nullable=False),
    Column("identity", String(400), nullable=False),
    Column("observer", String(64), nullable=False),
    Column("senders", Text, nullable=False),  # JSON list
    Column("within", Float(53), nullable=False),
    Column("give_up", Float(53), nullable=False),
    Column("arrive", String(16), nullable=False),
    Column("scheduled_time", Float(53)),
    Column("planned_wall", Float(53), nullable=False, server_default="0"),  # the probe's, for windows of reports
    Column("checks", Text, nullable=False),  # JSON list of texts
    Column("step_number", Integer, nullable=False),
    Column("stop_step", Integer),
    Column("open", Integer, nullable=False),  # 1 until both questions are settled
    Column("dirty", Integer, nullable=False),  # 1: a new fact is not judged; 2: time has come, only a fact can help
    *instant_columns("due"),  # when time alone may settle it
    Column("timeliness", String(16)),
    Column("timeliness_reason", Text, nullable=False),
    Column("timeliness_at", Float(53)),
    Column("outcome", String(16)),
    Column("outcome_reason", Text, nullable=False),
    Column("outcome_at", Float(53)),
    Column("latency_lower", Float(53)),
    Column("latency_upper", Float(53)),
    Column("latency_basis", String(64), nullable=False),
    Column("copies", Integer, nullable=False),
    Column("sighting_id", Integer),
    UniqueConstraint("probe_id", "channel", name="delivery_identity"),
)
Index("deliveries_planned", deliveries.c.planned_wall)
FAILED = text(
    "(outcome IN ('lost', 'damaged', 'misplaced', 'unwanted', 'refused', 'unanswered')"
    " OR timeliness IN ('overdue', 'early'))"
)
"""What a delivery that failed is; a query has to say it letter for letter to be answered by the index."""

Index(
    "deliveries_failed",
    deliveries.c.location,
    deliveries.c.planned_wall,
    sqlite_where=FAILED,
    postgresql_where=FAILED,
)
Index(
    "deliveries_dirty",
    deliveries.c.location,
    sqlite_where=text("dirty = 1"),
    postgresql_where=text("dirty = 1"),
)
Index(
    "deliveries_due",
    deliveries.c.location,
    deliveries.c.due_boot_id,
    deliveries.c.due_boottime,
    sqlite_where=text("open = 1 AND dirty = 0"),
    postgresql_where=text("open = 1 AND dirty = 0"),
)
Index(
    "deliveries_overdue",
    deliveries.c.location,
    deliveries.c.identity,
    sqlite_where=text("open = 1 AND dirty = 2"),
    postgresql_where=text("open = 1 AND dirty = 2"),
)
Index(
    "deliveries_awaited",
    deliveries.c.location,
    deliveries.c.observer,
    deliveries.c.due_boot_id,
    deliveries.c.due_boottime,
    sqlite_where=text("open = 1"),
    postgresql_where=text("open = 1"),
)
Index(
    "deliveries_open_identity",
    deliveries.c.identity,
    sqlite_where=text("open = 1"),
    postgresql_where=text("open = 1"),
)

keys = Table(
    "keys",
    metadata,
    Column("value", String(200), primary_key=True),
    Column("probe_id", ForeignKey("probes.id"), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("channel", String(64), nullable=False),  # empty: serves all channels of the probe
)

sightings = Table(
    "sightings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("location", String(64), nullable=False),
    Column("identity", String(400), nullable=False),
    Column("channel", String(64), nullable=False),
    Column("message_id", String(300), nullable=False),
    Column("fingerprint", String(300), nullable=False),
    Column("delivery_id", Integer, nullable=False),  # 0: no delivery's (yet)
    Column("how", String(16), nullable=False),
    Column("role", String(16), nullable=False),  # first, copy, moved, candidate, stray, broadcast
    Column("stray", String(16)),
    Column("misplaced", Integer, nullable=False),
    Column("checks_failed", Text, nullable=False),  # JSON list
    Column("sender", String(320), nullable=False),
    Column("stamp_at", Float(53)),
    Column("stamp_resolution", Float(53)),
    Column("stamp_source", String(100)),
    Column("sweep", Integer, nullable=False, server_default="0"),  # 1: carries a verified key; 2: and is planned
    *instant_columns("lower"),
    *instant_columns("upper"),
    UniqueConstraint("location", "identity", "message_id", "delivery_id", name="sighting_identity"),
)
Index("sightings_by_delivery", sightings.c.delivery_id)
Index("sightings_by_fingerprint", sightings.c.identity, sightings.c.fingerprint)

Index(
    "sightings_unswept",
    sightings.c.location,
    sightings.c.id,
    sqlite_where=text("sweep = 1"),
    postgresql_where=text("sweep = 1"),
)

candidates = Table(
    "candidates",
    metadata,
    Column("value", String(200), primary_key=True),
    Column("sighting_id", ForeignKey("sightings.id"), primary_key=True, index=True),
)

held = Table(
    "held",
    metadata,
    Column("sighting_id", ForeignKey("sightings.id"), primary_key=True),
    Column("texts", Text, nullable=False),  # JSON list, bounded
    *instant_columns("until"),
)

waypoints = Table(
    "waypoints",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("probe_id", ForeignKey("probes.id"), nullable=False, index=True),
    Column("delivery_id", Integer),
    Column("name", String(64), nullable=False),
    Column("at", Float(53), nullable=False),
    Column("resolution", Float(53), nullable=False),
    Column("source", String(100), nullable=False),
    Column("detail", Text, nullable=False, server_default=""),  # what the source says of it
)

coverage = Table(
    "coverage",
    metadata,
    Column("location", String(64), primary_key=True),
    Column("identity", String(400), primary_key=True),
    Column("channel", String(64), nullable=False),
    Column("blind_reason", String(64), nullable=False),  # empty unless this channel alone cannot be read
    Column("blind_detail", Text, nullable=False),
    *instant_columns("since"),
    *instant_columns("watermark"),
    *instant_columns("failed_read"),
)

observers = Table(
    "observers",
    metadata,
    Column("location", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("cursor", Text),
    Column("blind_reason", String(64), nullable=False),  # empty while it can see
    Column("blind_detail", Text, nullable=False),
    Column("trouble", Text, nullable=False, server_default=""),  # why pushes do not flow as they should
    Column("reads_per_minute", Float(53)),  # how many its provider allows, null for no limit
    *instant_columns("blind_since"),
    *instant_columns("failed_read"),  # when the latest failed read began
)

offsets = Table(
    "offsets",
    metadata,
    Column("location", String(64), primary_key=True),
    Column("source", String(100), primary_key=True),
    Column("boot_id", String(16), primary_key=True),
    Column("lower", Float(53), nullable=False),
    Column("upper", Float(53), nullable=False),
    Column("at", Float(53), nullable=False),  # the wall reading of ``at_boottime``
    Column("at_boottime", Float(53), nullable=False),  # when the bounds held: they widen with the distance from it
    Column("since_boottime", Float(53)),  # the latest step of the provider's clock, null for none
    Column("stepped_at", Float(53)),  # its wall reading
    Column("step", Float(53)),  # by how many seconds, at the least
)

schedules = Table(
    "schedules",
    metadata,
    Column("location", String(64), primary_key=True),
    Column("scenario", String(64), primary_key=True),
    Column("last_slot", Float(53), nullable=False),  # the newest slot that was run or counted, wall time
)

launching = Table(
    "launching",
    metadata,
    Column("location", String(64), primary_key=True),
    Column("errors", Integer, nullable=False),  # publish errors since the last other answer
    Column("trial_at", Float(53)),  # wall time of the last trial while launching is stopped
)

controls = Table(
    "controls",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("location", String(64), nullable=False),
    Column("identity", String(400), nullable=False),
    Column("channel", String(64), nullable=False),
    Column("message_id", String(300), nullable=False),
    Column("stamp_at", Float(53), nullable=False),
    Column("stamp_resolution", Float(53), nullable=False),
    Column("stamp_source", String(100), nullable=False),
    Column("how", String(16), nullable=False),  # empty until it is seen; lost, or unseen when nobody could look
    *instant_columns("sent"),
    *instant_columns("answered"),
    *instant_columns("lower"),
    *instant_columns("seen"),
    UniqueConstraint("location", "identity", "message_id", name="control_identity"),
)
Index("controls_by_time", controls.c.location, controls.c.identity, controls.c.sent_wall)

environment = Table(
    "environment",
    metadata,
    Column("name", String(64), primary_key=True),  # the only row: whose ledger this is
)

totals = Table(
    "totals",
    metadata,
    Column("location", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("labels", String(400), primary_key=True),  # canonical JSON
    Column("value", Float(53), nullable=False),
)

exemplars = Table(
    "exemplars",
    metadata,
    Column("location", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("labels", String(400), primary_key=True),  # of the bucket's row in the totals
    Column("probe_id", String(32), nullable=False),
    Column("trace_id", String(32), nullable=False),
    Column("value", Float(53), nullable=False),
    Column("at", Float(53), nullable=False),
)

moments = Table(
    "moments",
    metadata,
    Column("location", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("labels", String(400), primary_key=True),  # canonical JSON
    Column("at", Float(53), nullable=False),  # the latest wall time of its kind
)

totals_hourly = Table(
    "totals_hourly",
    metadata,
    Column("location", String(64), primary_key=True),
    Column("hour", Integer, primary_key=True),  # hours since 1970
    Column("name", String(64), primary_key=True),
    Column("labels", String(400), primary_key=True),
    Column("value", Float(53), nullable=False),
)
