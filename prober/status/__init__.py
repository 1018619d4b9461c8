"""What the service shows over HTTP: metrics, health, the latest results, the page."""
