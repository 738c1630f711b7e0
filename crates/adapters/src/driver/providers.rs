//! The providers of the configured types, and those that created the remembered machines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use planner::MachineType;
use reconciler::{Event, Listing, ProviderId, Record};

use crate::config::Config;
use crate::digest::sha256;
use crate::panics::caught;
use crate::providers::{
    Provider, ProviderContext, ProviderError, ProviderSettings, build_for_tags,
};
use crate::state::Remembered;

/// After a failure.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// All providers by their id.
pub(super) struct Providers {
    configured: BTreeMap<MachineType, ProviderId>,
    settings: Remembered,
    by_id: BTreeMap<ProviderId, Arc<dyn Provider>>,
}

impl Providers {
    /// Those of `config`, and those of `remembered` that machines with `records` were created by.
    pub(super) fn new<'a>(
        config: &Config,
        remembered: Remembered,
        records: impl IntoIterator<Item = &'a Record>,
    ) -> Self {
        let id = |settings: &ProviderSettings| ProviderId(settings.identity());
        let configured: BTreeMap<_, _> =
            config.providers.iter().map(|(t, settings)| (t.clone(), id(settings))).collect();
        let mut settings = needed(remembered, &configured, records);
        for (machine_type, provider) in &config.providers {
            let types = settings.entry(id(provider)).or_default();
            types.insert(machine_type.clone(), provider.clone());
        }
        let tag = &config.policy.tag;
        let former = &config.policy.former_tags;
        let made = settings.iter().filter_map(|(id, types)| {
            let is_removed = |t: &&MachineType| configured.get(*t) != Some(id);
            let context = ProviderContext {
                removed: types.keys().filter(is_removed).cloned().collect(),
                ..ProviderContext::new(tag.clone(), config.state_dir.clone())
            };
            Some((id.clone(), Arc::from(build_for_tags(&context, former, types)?)))
        });
        let by_id = made.collect();
        Self { configured, settings, by_id }
    }

    pub(super) fn get(&self, id: &ProviderId) -> Option<Arc<dyn Provider>> {
        self.by_id.get(id).cloned()
    }

    /// Whether it is used only for machines created earlier.
    pub(super) fn is_old(&self, id: &ProviderId) -> bool {
        !self.configured.values().any(|configured| configured == id)
    }

    /// Configured providers that may announce interruptions. Of others, the listing shows them: a queue that is not
    /// configured any more may be another provisioner's now.
    pub(super) fn announcing(&self) -> impl Iterator<Item = (&ProviderId, Weak<dyn Provider>)> {
        let configured = self.by_id.iter().filter(|(id, _)| !self.is_old(id));
        let announcing = configured.filter(|(_, one)| one.announces_interruptions());
        announcing.map(|(id, provider)| (id, Arc::downgrade(provider)))
    }

    pub(super) fn configured(&self) -> &BTreeMap<MachineType, ProviderId> {
        &self.configured
    }

    pub(super) fn settings(&self) -> &Remembered {
        &self.settings
    }
}

/// The settings of `remembered` that machines with `records` need: those of the types that they were created with. Others
/// would stay in force for all machines of their provider.
fn needed<'a>(
    mut remembered: Remembered,
    configured: &BTreeMap<MachineType, ProviderId>,
    records: impl IntoIterator<Item = &'a Record>,
) -> Remembered {
    let mut needed = BTreeMap::<&ProviderId, BTreeSet<&MachineType>>::new();
    for record in records {
        needed.entry(&record.provider).or_default().insert(&record.machine.machine_type);
    }
    remembered.retain(|id, types| {
        let Some(needed) = needed.get(id) else { return false };
        let is_reachable = configured.values().any(|configured| configured == id)
            || types.keys().any(|t| needed.contains(t));
        // Without settings of its own type, a machine can be reached with those of another one.
        if is_reachable {
            types.retain(|t, _| needed.contains(t));
        }
        true
    });
    remembered
}

/// Reports each interruption that `provider` announces, until the provider is replaced or the driver ends.
pub(super) fn listen(
    id: &ProviderId,
    provider: &Weak<dyn Provider>,
    tell: impl Fn(Event) -> ControlFlow<()>,
) {
    let mut trouble = None;
    while let Some(provider) = provider.upgrade() {
        let waited = caught(|| provider.wait_for_interruptions());
        match waited.unwrap_or_else(|message| Err(ProviderError::failed(message))) {
            Ok(names) => {
                trouble = None;
                for machine in names {
                    if tell(Event::Interrupted { provider: id.clone(), machine }).is_break() {
                        return;
                    }
                }
            }
            Err(error) => {
                if trouble.as_ref() != Some(&error) {
                    tracing::warn!("{id}: interruption notices cannot be received: {error}");
                    trouble = Some(error);
                }
                thread::sleep(LISTEN_AGAIN_AFTER);
            }
        }
    }
}

/// Lists the machines of one provider.
pub(super) fn list(
    provider: Option<&dyn Provider>,
    id: &ProviderId,
    is_old: bool,
    limit: Duration,
) -> Result<Listing, String> {
    let provider = provider.ok_or_else(|| {
        format!(
            "nothing is known of the provider that machines were made with ({id}); once they are gone: \
             hydra-provisioner forget NAME"
        )
    })?;
    let machines = provider.list(limit).map_err(|error| {
        if is_old {
            format!(
                "{error} (this provider is not configured any more, but machines were made with it; once they are \
                 gone: hydra-provisioner forget NAME)"
            )
        } else {
            error.to_string()
        }
    })?;
    let (resources, prices) = (provider.resources(), provider.prices());
    Ok(Listing { machines, resources, prices, not_ours: Vec::new() })
}

/// Digests of what deployments install on machines: for NixOps types, their settings and their expression.
pub(super) fn settings_digests(config: &Config) -> BTreeMap<MachineType, String> {
    let digest = |settings: &ProviderSettings| {
        let ProviderSettings::Nixops(nixops) = settings else { return None };
        let mut bytes = serde_json::to_vec(settings).ok()?;
        // Files that a flake or network refers to are not included.
        bytes.extend(nixops.expr.as_ref().and_then(|path| fs::read(path).ok()).unwrap_or_default());
        Some(sha256(bytes))
    };
    let providers = config.providers.iter();
    providers.filter_map(|(t, settings)| Some((t.clone(), digest(settings)?))).collect()
}
