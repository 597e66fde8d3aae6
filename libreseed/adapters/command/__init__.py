"""What every command shares: arguments, settings, keys, progress, the control socket."""
