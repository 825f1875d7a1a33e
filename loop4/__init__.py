"""Loop4: operations agents behind a deterministic policy gate."""
