"""The embedded world: the test double, the demo, the proof."""
