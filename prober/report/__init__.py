"""Readers: result values -> what people and programs see."""
