"""What the commands take and print; each imports what it needs when it runs, so that --help is quick."""
