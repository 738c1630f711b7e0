//! Offers: the ways to get a machine, and which of them are set aside for a while.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reconciler::OperationErrorKind;

use crate::providers::ProviderError;

/// How long an offer without capacity is not tried again, as in Karpenter.
const SET_ASIDE_FOR: Duration = Duration::from_secs(3 * 60);

/// Why an offer was refused.
#[derive(Debug)]
pub(in crate::providers) enum Refusal {
    /// Unavailable now (capacity, quota): the next offer is tried.
    Unavailable(String),
    /// Any other failure ends the creation.
    Other(ProviderError),
}

impl From<ProviderError> for Refusal {
    fn from(error: ProviderError) -> Self {
        Self::Other(error)
    }
}

/// The offers that recently had no capacity, with the reason.
#[derive(Debug)]
pub(in crate::providers) struct SetAside<O>(Mutex<BTreeMap<O, (Instant, String)>>);

impl<O: Ord> Default for SetAside<O> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<O: Ord + Clone + Display> SetAside<O> {
    fn reason(&self, offer: &O) -> Option<String> {
        let mut offers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        offers.retain(|_, (since, _)| since.elapsed() < SET_ASIDE_FOR);
        offers.get(offer).map(|(since, reason)| {
            let left = SET_ASIDE_FOR.saturating_sub(since.elapsed()).as_secs();
            format!("{reason} (not tried again for {left} s)")
        })
    }

    /// Sets an offer aside for a while.
    pub(in crate::providers) fn add(&self, offer: O, reason: String) {
        let mut offers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        offers.insert(offer, (Instant::now(), reason));
    }

    /// Tries the offers in order until one succeeds.
    ///
    /// # Errors
    /// With [`OperationErrorKind::Capacity`] and each offer's reason if none is available now; with the first
    /// failure of another kind.
    pub(in crate::providers) fn first_available<T>(
        &self,
        offers: &[O],
        mut attempt: impl FnMut(&O) -> Result<T, Refusal>,
    ) -> Result<T, ProviderError> {
        let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
        for offer in offers {
            let reason = match self.reason(offer) {
                Some(reason) => reason,
                None => match attempt(offer) {
                    Ok(taken) => return Ok(taken),
                    Err(Refusal::Other(error)) => return Err(error),
                    Err(Refusal::Unavailable(reason)) => {
                        tracing::warn!(%offer, "not available now: {reason}");
                        self.add(offer.clone(), reason.clone());
                        reason
                    }
                },
            };
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, offers)) => offers.push(offer.to_string()),
                None => reasons.push((reason, vec![offer.to_string()])),
            }
        }
        let reasons: Vec<_> = reasons
            .into_iter()
            .map(|(reason, offers)| format!("{}: {reason}", offers.join(", ")))
            .collect();
        let reasons =
            if reasons.is_empty() { "none is configured".into() } else { reasons.join("; ") };
        Err(ProviderError {
            kind: OperationErrorKind::Capacity,
            message: format!("no offer is available now; {reasons}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_offer_is_tried_and_the_one_without_capacity_is_left_alone() {
        let set_aside = SetAside::default();
        let mut asked = Vec::new();
        for _ in 0..2 {
            let taken = set_aside.first_available(&["a", "b"], |offer| {
                asked.push(*offer);
                match *offer {
                    "a" => Err(Refusal::Unavailable("sold out".to_owned())),
                    other => Ok(other),
                }
            });
            assert_eq!(taken.unwrap(), "b");
        }
        assert_eq!(asked, ["a", "b", "b"]);
    }

    #[test]
    fn when_none_is_left_each_is_named() {
        let refuse = |offer: &&str| -> Result<(), Refusal> {
            Err(Refusal::Unavailable(format!("no room for {offer}")))
        };
        let error = SetAside::default().first_available(&["a", "b"], refuse).unwrap_err();
        assert_eq!(error.kind, OperationErrorKind::Capacity);
        assert_eq!(error.message, "no offer is available now; a: no room for a; b: no room for b");
        let refuse =
            |_: &&str| -> Result<(), Refusal> { Err(Refusal::Unavailable("no room".to_owned())) };
        let error = SetAside::default().first_available(&["a", "b"], refuse).unwrap_err();
        assert_eq!(error.message, "no offer is available now; a, b: no room", "each reason once");
    }
}
