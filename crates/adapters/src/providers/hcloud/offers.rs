//! The ways to get a server.

use std::fmt;

use super::settings::Settings;
use super::wire::Server;

/// One way to get a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Offer {
    pub(super) server_type: String,
    pub(super) location: String,
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.server_type, self.location)
    }
}

/// How a server was obtained.
pub(super) fn offer_of(server: &Server) -> Offer {
    let (server_type, location) = server.place();
    Offer {
        server_type: server_type.to_owned(),
        location: location.unwrap_or("an unknown location").to_owned(),
    }
}

/// The offers as text.
pub(in crate::providers) fn described_offers(settings: &Settings) -> Vec<String> {
    offers(settings).iter().map(ToString::to_string).collect()
}

/// Every server type in every location; the type takes precedence.
pub(super) fn offers(settings: &Settings) -> Vec<Offer> {
    let of_type = |server_type: &String| {
        let server_type = server_type.clone();
        settings.locations.iter().map(move |location| Offer {
            server_type: server_type.clone(),
            location: location.clone(),
        })
    };
    settings.server_types.iter().flat_map(of_type).collect()
}
