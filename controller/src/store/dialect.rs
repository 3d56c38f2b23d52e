//! What differs between engines. Everything else in this module is SQL that all of them read: `$1`, RETURNING,
//! ON CONFLICT, UPDATE … FROM, `->>`.

/// The rows of a JSON array bound as text; each row has a column `value`.
macro_rules! rows {
    ($bind:literal) => {
        concat!("json_each(", $bind, ")")
    };
}

/// The text of a row of [`rows!`] over a list of texts.
macro_rules! item {
    ($value:literal) => {
        $value
    };
}

/// Bytes out of hexadecimal text.
macro_rules! bytes {
    ($text:literal) => {
        concat!("unhex(", $text, ")")
    };
}

/// Bytes into lower-case hexadecimal text.
macro_rules! text {
    ($bytes:literal) => {
        concat!("lower(hex(", $bytes, "))")
    };
}

/// Whether the JSON object `have` has every pair of the JSON object `want`.
macro_rules! has_all {
    ($have:literal, $want:literal) => {
        concat!(
            "NOT EXISTS (SELECT 1 FROM json_each(",
            $want,
            ") AS want WHERE NOT EXISTS (SELECT 1 FROM json_each(",
            $have,
            ") AS have WHERE have.key = want.key AND have.value = want.value))"
        )
    };
}

pub(super) use {bytes, has_all, item, rows, text};

/// What an error code means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Full,
    Busy,
    Other,
}

/// The low byte is the primary code; a write, sync, truncate or shared-memory resize that fails is a full disk or
/// a broken one, and the answer is the same.
pub(super) const fn class(code: i32) -> Class {
    const IOERR: i32 = 10;
    const WRITE: i32 = IOERR | 3 << 8;
    const FSYNC: i32 = IOERR | 4 << 8;
    const DIR_FSYNC: i32 = IOERR | 5 << 8;
    const TRUNCATE: i32 = IOERR | 6 << 8;
    const SHM_SIZE: i32 = IOERR | 19 << 8;
    match code {
        WRITE | FSYNC | DIR_FSYNC | TRUNCATE | SHM_SIZE => Class::Full,
        _ => match code & 0xff {
            13 => Class::Full,
            5 | 6 => Class::Busy,
            _ => Class::Other,
        },
    }
}
