//! Shared resources that machines can use up, such as the memory of their host.

use crate::names::MachineType;
use crate::snapshot::Resource;

/// The unused amount of every resource while machines are chosen.
pub(crate) struct Admission<'a> {
    left: Vec<(&'a Resource, u64)>,
}

impl<'a> Admission<'a> {
    pub(crate) fn new(resources: &'a [Resource]) -> Self {
        Self { left: resources.iter().map(|resource| (resource, resource.free)).collect() }
    }

    /// The resource that one more machine would exceed.
    pub(crate) fn short_of(&self, machine_type: &MachineType) -> Option<&'a Resource> {
        let short =
            self.left.iter().find(|(resource, left)| resource.need_of(machine_type) > *left);
        short.map(|(resource, _)| *resource)
    }

    /// Takes the needs of one more machine. Those that are short become 0.
    pub(crate) fn take(&mut self, machine_type: &MachineType) {
        for (resource, left) in &mut self.left {
            *left = left.saturating_sub(resource.need_of(machine_type));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_fit_is_admitted() {
        let kind = MachineType::new("x86_64-linux");
        let resource =
            Resource { name: "MiB".to_owned(), free: 2000, needs: [(kind.clone(), 1000)].into() };
        let resources = [resource];
        let mut admission = Admission::new(&resources);
        for _ in 0..2 {
            assert!(admission.short_of(&kind).is_none());
            admission.take(&kind);
        }
        assert!(admission.short_of(&kind).is_some());
        assert!(admission.short_of(&MachineType::new("needs nothing of it")).is_none());
    }
}
