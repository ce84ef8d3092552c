"""What every room may use and that knows none of them: clock, services, fan-out, log, settings."""
