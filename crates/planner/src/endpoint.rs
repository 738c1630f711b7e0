//! The address of a machine: one type with one parser, one normal form and one printer.
//!
//! Providers, machines files and queue runners write the same machine in many ways: `host`, `user@host`,
//! `host:port`, `[v6]:port`, `ssh://user@host:port?option=value`. Different spellings of one endpoint are
//! equal here.

use core::net::{IpAddr, Ipv6Addr};
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::escape::escape;

/// The default ssh port.
pub const SSH_PORT: u16 = 22;

/// The longest DNS name in bytes (RFC 1035).
const MAX_NAME_BYTES: usize = 253;

/// A host in normal form: an IP address (an IPv4-mapped IPv6 address becomes an IPv4 address), or a DNS name
/// in lower case without a trailing dot.
///
/// Text that is not a host is kept unchanged and equals only itself. So a queue runner's unusual key matches
/// no machine, but is not lost.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(Form);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Form {
    Address(IpAddr),
    /// An address of one network interface: `fe80::1%eth0`.
    Scoped(Ipv6Addr, Arc<str>),
    Name(Arc<str>),
    Unreadable(Arc<str>),
}

/// Why text is not a valid endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointError(String);

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for EndpointError {}

impl Host {
    /// Takes any text. [`Host::is_readable`] says whether it is a host.
    pub fn new(text: impl AsRef<str>) -> Self {
        let text = text.as_ref();
        text.parse().unwrap_or_else(|_: EndpointError| Self(Form::Unreadable(text.into())))
    }

    /// Whether it is a host, and not only text.
    pub fn is_readable(&self) -> bool {
        !matches!(self.0, Form::Unreadable(_))
    }

    /// The IP address, if it means the same on every interface.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.0 {
            Form::Address(address) => Some(address),
            Form::Scoped(..) | Form::Name(_) | Form::Unreadable(_) => None,
        }
    }

    /// In the form for URIs: IPv6 addresses in brackets.
    pub fn in_uri(&self) -> String {
        match &self.0 {
            Form::Address(IpAddr::V6(address)) => format!("[{address}]"),
            Form::Scoped(address, zone) => format!("[{address}%25{zone}]"),
            Form::Address(IpAddr::V4(_)) | Form::Name(_) | Form::Unreadable(_) => self.to_string(),
        }
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self(Form::Address(address.to_canonical()))
    }
}

/// A host alone, without user and port. An IPv6 address may be in brackets.
impl FromStr for Host {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(address) = bare {
            return ipv6(address).ok_or_else(|| refuse(text, "is not an IPv6 address"));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(address.into());
        }
        if text.contains(':') {
            return ipv6(text).ok_or_else(|| refuse(text, "is neither an address nor a name"));
        }
        dns_name(name).map_err(|reason| refuse(text, reason))
    }
}

/// An IPv6 address, with its interface if it has one: `fe80::1%eth0`, in URIs `fe80::1%25eth0`.
fn ipv6(text: &str) -> Option<Host> {
    let Some((address, zone)) = text.split_once('%') else {
        return text.parse().ok().map(|address: Ipv6Addr| IpAddr::V6(address).into());
    };
    let zone = zone.strip_prefix("25").filter(|zone| !zone.is_empty()).unwrap_or(zone);
    let is_zone = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_right = !zone.is_empty() && zone.chars().all(is_zone);
    is_right.then(|| Some(Host(Form::Scoped(address.parse().ok()?, zone.into()))))?
}

fn dns_name(name: &str) -> Result<Host, &'static str> {
    let is_in_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() {
        return Err("is no host");
    }
    if name.len() > MAX_NAME_BYTES {
        return Err("is too long for a host name");
    }
    if !name.chars().all(|c| is_in_names(c) || c == '.') {
        return Err("has characters that no host name has");
    }
    if name.split('.').any(|label| label.is_empty() || label.starts_with('-')) {
        return Err("has an empty part, or one that starts with '-'");
    }
    // Resolvers accept `10.1` and `10.0.0.256` in various ways, but they are not names.
    if name.rsplit_once('.').is_some_and(|(_, last)| last.chars().all(|c| c.is_ascii_digit())) {
        return Err("is not a whole IPv4 address");
    }
    Ok(Host(Form::Name(name.to_ascii_lowercase().into())))
}

fn refuse(text: &str, reason: &str) -> EndpointError {
    EndpointError(format!("\"{}\" {reason}", escape(text)))
}

/// In the form for ssh: no brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: Cow<'_, str> = match &self.0 {
            Form::Address(address) => address.to_string().into(),
            Form::Scoped(address, zone) => format!("{address}%{zone}").into(),
            Form::Name(text) | Form::Unreadable(text) => Cow::Borrowed(text),
        };
        f.pad(&text)
    }
}

impl Serialize for Host {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// A host and its ssh port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The host.
    pub host: Host,
    /// `None` if not reported: it matches every port of the host.
    pub port: Option<u16>,
}

impl Endpoint {
    /// Takes any text, as [`Host::new`] does. Users, schemes and parameters are ignored.
    pub fn new(text: impl AsRef<str>) -> Self {
        let text = text.as_ref();
        match text.parse::<Destination>() {
            Ok(destination) => destination.endpoint,
            Err(_) => Self { host: Host::new(text), port: None },
        }
    }

    /// Whether both may be the same endpoint: two known ports must be equal.
    pub fn may_be(&self, other: &Self) -> bool {
        self.host == other.host && ports_fit(self.port, other.port)
    }
}

/// Whether two ports may be the same.
pub(crate) fn ports_fit(a: Option<u16>, b: Option<u16>) -> bool {
    a.is_none() || b.is_none() || a == b
}

/// `host` or `host:port`, IPv6 addresses with a port in brackets.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => self.host.fmt(f),
            Some(port) => write!(f, "{}:{port}", self.host.in_uri()),
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// All parts of a machine's address: `scheme://user@host:port/path?parameters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// In lower case: `ssh`, `ssh-ng`.
    pub scheme: Option<String>,
    /// The user to log in as.
    pub user: Option<String>,
    /// Host and port.
    pub endpoint: Endpoint,
    /// What follows the port: a path, parameters. Empty, or begins with `/`, `?` or `#`.
    pub rest: String,
}

impl Destination {
    /// `user` at an endpoint, without scheme and parameters.
    pub fn new(user: impl Into<String>, host: Host, port: u16) -> Self {
        let endpoint = Endpoint { host, port: Some(port) };
        Self { scheme: None, user: Some(user.into()), endpoint, rest: String::new() }
    }
}

impl FromStr for Destination {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let (scheme, place) = match text.split_once("://") {
            Some((scheme, place)) if is_scheme(scheme) => (Some(scheme), place),
            _ => (None, text),
        };
        let end = place.find(['/', '?', '#']).unwrap_or(place.len());
        let (authority, rest) = place.split_at(end);
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        Ok(Self {
            scheme: scheme.map(str::to_ascii_lowercase),
            user: user.filter(|user| !user.is_empty()).map(str::to_owned),
            endpoint: host_and_port(place)?,
            rest: rest.to_owned(),
        })
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

fn host_and_port(place: &str) -> Result<Endpoint, EndpointError> {
    let after_brackets = place.starts_with('[').then(|| place.rsplit_once(']')).flatten();
    let (host, port) = match (after_brackets, place.split_once(':')) {
        (Some((_, "")), _) => (place, None),
        (Some((address, rest)), _) => {
            let port = rest.strip_prefix(':').ok_or_else(|| refuse(place, "is no host"))?;
            (&place[..=address.len()], Some(port))
        }
        // More than one colon without brackets: an IPv6 address.
        (None, Some((host, port))) if !port.contains(':') => (host, Some(port)),
        (None, _) => (place, None),
    };
    let port = port.map(|port| {
        let number = port.parse().ok().filter(|number| *number > 0 && !port.starts_with('+'));
        number.ok_or_else(|| refuse(place, "has a port that is not a number from 1 to 65535"))
    });
    Ok(Endpoint { port: port.transpose()?, host: host.parse()? })
}

/// `user@host` if the port is 22 and there is no scheme (Nix 2.8 and ssh accept IPv6 addresses this way, newer Nix too),
/// otherwise a URI.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, user, endpoint: Endpoint { host, port }, rest } = self;
        let port = port.filter(|port| *port != SSH_PORT);
        let is_plain = scheme.is_none() && port.is_none();
        if !is_plain {
            write!(f, "{}://", scheme.as_deref().unwrap_or("ssh"))?;
        }
        if let Some(user) = user {
            write!(f, "{user}@")?;
        }
        if is_plain && rest.is_empty() {
            write!(f, "{host}")?;
        } else {
            f.write_str(&host.in_uri())?;
        }
        if let Some(port) = port {
            write!(f, ":{port}")?;
        }
        f.write_str(rest)
    }
}
