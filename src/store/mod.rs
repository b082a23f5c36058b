//! SQLite: intents, ledger, event log.
