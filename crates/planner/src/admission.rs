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

    /// Whether there is room for one more machine.
    pub(crate) fn has_room(&self, machine_type: &MachineType) -> bool {
        self.short_of(machine_type).is_none()
    }

    /// The resource that one more machine would exceed.
    fn short_of(&self, machine_type: &MachineType) -> Option<&'a Resource> {
        let short =
            self.left.iter().find(|(resource, left)| resource.need_of(machine_type) > *left);
        short.map(|(resource, _)| *resource)
    }

    /// Takes the needs of one more machine, of all resources or of none. `Err` is the resource that is short.
    pub(crate) fn take(&mut self, machine_type: &MachineType) -> Result<(), &'a Resource> {
        if let Some(short) = self.short_of(machine_type) {
            return Err(short);
        }
        for (resource, left) in &mut self.left {
            *left -= resource.need_of(machine_type);
        }
        Ok(())
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
        assert!(admission.take(&kind).is_ok() && admission.take(&kind).is_ok());
        assert!(admission.take(&kind).is_err());
        assert!(admission.take(&MachineType::new("needs nothing of it")).is_ok());
    }
}
