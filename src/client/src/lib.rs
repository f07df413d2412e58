//! What a daemon says to `seamless-run`, and hears from it.
