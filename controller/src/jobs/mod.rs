//! The commands on jobs, one file each: load, `lifecycle::step`, save. The only callers of the store's writes.
