//! What runs inside the guest, and what it is told.
