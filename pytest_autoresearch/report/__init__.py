"""What people read: results.tsv, progress.png and the tables of the terminal summary."""
