"""What Prometheus is told: requests are counted where they are answered, all else is read from the database when asked."""
