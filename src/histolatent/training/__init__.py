"""What every training of networks shares: devices and processes, checkpoints, rates. Import its parts by name."""
