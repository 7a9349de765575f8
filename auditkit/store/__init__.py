"""The store on disk: its paths, its durable writes, its journals, segments and ledger."""
