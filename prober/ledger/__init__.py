"""The durable record: SQLAlchemy Core on SQLite or PostgreSQL, one module of transactions per stage."""
