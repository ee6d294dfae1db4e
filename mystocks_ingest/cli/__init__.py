"""The command line. Commands hold no logic of their own."""
