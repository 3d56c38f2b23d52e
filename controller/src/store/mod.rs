//! The truth. All SQL lives here; nothing else knows that there is any.
