//! Signed addresses of the directory store: what one URL allows, and for how long. HMAC-SHA256 over everything
//! that matters; no state is kept for an address that was handed out.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::{fmt, fmt::Write as _};

/// What an address is for. The HTTP method alone does not tell a part from a whole object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Get,
    Put,
    PutPart,
}

impl Action {
    const ALL: [Self; 3] = [Self::Get, Self::Put, Self::PutPart];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::PutPart => "part",
        }
    }
}

/// What one address allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub action: Action,
    pub key: String,
    /// Seconds since 1970 on the controller's clock, which also checks it.
    pub expires: u64,
    /// Exact size of the body; zero for a GET.
    pub size: u64,
    /// Of a part.
    pub upload: String,
    /// Of a part, from 1.
    pub part: u32,
    /// Of a part, in the object.
    pub offset: u64,
}

/// Why an address is not honoured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("the address is not signed by this controller, or was changed after signing")]
    Signature,
    #[error("the address expired; ask for a new one")]
    Expired,
    #[error("the address is signed for another method")]
    Method,
    #[error("the address lacks its signature's fields; use it exactly as it was handed out")]
    Incomplete,
}

/// Holds the secret key.
#[derive(Clone)]
pub struct Signer {
    mac: Hmac<Sha256>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    pub fn new(secret: &[u8]) -> Self {
        Self { mac: Hmac::new_from_slice(secret).expect("HMAC takes keys of any length") }
    }

    /// Path and query under the base address.
    pub fn sign(&self, ticket: &Ticket) -> String {
        let signature = hex::encode(self.mac_of(ticket).finalize().into_bytes());
        let mut url =
            format!("/blobs/{}?op={}&expires={}", ticket.key, ticket.action.as_str(), ticket.expires);
        match ticket.action {
            Action::Get => {}
            Action::Put => push(&mut url, "size", &ticket.size),
            Action::PutPart => {
                push(&mut url, "size", &ticket.size);
                push(&mut url, "upload", &ticket.upload);
                push(&mut url, "part", &ticket.part);
                push(&mut url, "offset", &ticket.offset);
            }
        }
        push(&mut url, "sig", &signature);
        url
    }

    /// Reads an address back. `now` in seconds since 1970.
    pub fn verify(&self, method: &http::Method, key: &str, query: &str, now: u64) -> Result<Ticket, Denied> {
        let (ticket, signature) = parse(key, query).ok_or(Denied::Incomplete)?;
        self.mac_of(&ticket).verify_slice(&signature).map_err(|_| Denied::Signature)?;
        let fits = match ticket.action {
            Action::Get => method == http::Method::GET || method == http::Method::HEAD,
            Action::Put | Action::PutPart => method == http::Method::PUT,
        };
        if !fits {
            return Err(Denied::Method);
        }
        if ticket.expires < now { Err(Denied::Expired) } else { Ok(ticket) }
    }

    fn mac_of(&self, ticket: &Ticket) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        let Ticket { action, key, expires, size, upload, part, offset } = ticket;
        // Keys and upload ids hold no newline, so no two tickets have the same text.
        let text = format!("{}\n{key}\n{expires}\n{size}\n{upload}\n{part}\n{offset}", action.as_str());
        mac.update(text.as_bytes());
        mac
    }
}

fn push(url: &mut String, name: &str, value: &dyn fmt::Display) {
    write!(url, "&{name}={value}").expect("a string takes any text");
}

fn parse(key: &str, query: &str) -> Option<(Ticket, Vec<u8>)> {
    let mut ticket = Ticket {
        action: Action::Get,
        key: key.to_owned(),
        expires: 0,
        size: 0,
        upload: String::new(),
        part: 0,
        offset: 0,
    };
    let mut signature = None;
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match name {
            "op" => ticket.action = Action::ALL.into_iter().find(|action| action.as_str() == value)?,
            "expires" => ticket.expires = value.parse().ok()?,
            "size" => ticket.size = value.parse().ok()?,
            "upload" => value.clone_into(&mut ticket.upload),
            "part" => ticket.part = value.parse().ok()?,
            "offset" => ticket.offset = value.parse().ok()?,
            "sig" => signature = Some(hex::decode(value).ok()?),
            _ => {}
        }
    }
    Some((ticket, signature?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    fn ticket(action: Action) -> Ticket {
        let (size, upload, part, offset) = match action {
            Action::Get => (0, String::new(), 0, 0),
            Action::Put => (7, String::new(), 0, 0),
            Action::PutPart => (7, "ab12".to_owned(), 2, 7),
        };
        Ticket { action, key: "cas/00ff".to_owned(), expires: 100, size, upload, part, offset }
    }

    fn verify(signer: &Signer, method: &Method, url: &str, now: u64) -> Result<Ticket, Denied> {
        let (path, query) = url.split_once('?').expect("a query");
        signer.verify(method, path.strip_prefix("/blobs/").expect("its path"), query, now)
    }

    #[test]
    fn an_address_reads_back() {
        let signer = Signer::new(b"secret");
        for (action, method) in
            [(Action::Get, Method::GET), (Action::Put, Method::PUT), (Action::PutPart, Method::PUT)]
        {
            let url = signer.sign(&ticket(action));
            assert_eq!(verify(&signer, &method, &url, 100), Ok(ticket(action)));
        }
    }

    #[test]
    fn a_changed_address_is_denied() {
        let signer = Signer::new(b"secret");
        let url = signer.sign(&ticket(Action::PutPart));
        for (from, to) in [
            ("cas/00ff", "cas/00fe"),
            ("size=7", "size=8"),
            ("part=2", "part=1"),
            ("offset=7", "offset=0"),
            ("upload=ab12", "upload=ab13"),
            ("expires=100", "expires=999"),
            ("op=part", "op=put"),
        ] {
            let changed = url.replacen(from, to, 1);
            assert_ne!(changed, url);
            assert_eq!(verify(&signer, &Method::PUT, &changed, 1), Err(Denied::Signature), "{to}");
        }
        assert_eq!(verify(&Signer::new(b"other"), &Method::PUT, &url, 1), Err(Denied::Signature));
        assert_eq!(signer.verify(&Method::PUT, "cas/00ff", "op=put", 1), Err(Denied::Incomplete));
    }

    #[test]
    fn another_method_and_a_late_use_are_denied() {
        let signer = Signer::new(b"secret");
        let url = signer.sign(&ticket(Action::Get));
        assert_eq!(verify(&signer, &Method::PUT, &url, 1), Err(Denied::Method));
        assert_eq!(verify(&signer, &Method::GET, &url, 101), Err(Denied::Expired));
    }
}
