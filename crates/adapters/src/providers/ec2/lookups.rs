//! What is looked up before a creation: the newest image, and the instance types that meet requirements.

use std::cmp::Reverse;
use std::time::Duration;

use serde_json::json;

use super::api::{Call, Client, Service};
use super::settings::{Image, Requirements, Settings};
use super::wire::{self, InstanceType};
use crate::providers::ProviderError;
use crate::providers::cloud::{Images, Lookup, RetryBudget};

/// New types appear a few times a year.
const TYPES_VALID_FOR: Duration = Duration::from_secs(12 * 3600);
/// So many types are tried at most.
const MOST_TYPES: usize = 10;
/// The API's maximum.
const TYPES_PER_PAGE: &str = "100";
/// Families in which virtual machines can run on instances that are not bare metal.
const NESTING_FAMILIES: [&str; 6] = ["c8i", "m8i", "r8i", "c8i-flex", "m8i-flex", "r8i-flex"];

/// What was found, and when.
#[derive(Debug)]
pub(super) struct Lookups {
    /// The service with parameters.
    parameters: Client,
    images: Images<Image, String>,
    types: Lookup<Wanted, Vec<String>>,
}

/// What instance types must have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    requirements: Requirements,
    /// Virtual machines can run.
    nests: bool,
    hibernates: bool,
}

impl Wanted {
    fn of(settings: &Settings) -> Option<Self> {
        Some(Self {
            requirements: settings.requirements.clone()?,
            nests: settings.nested_virtualization,
            hibernates: settings.hibernate,
        })
    }
}

impl Lookups {
    /// For the region and account of `settings`.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            parameters: Client::new(settings, Service::ssm(settings)),
            images: Images::new(),
            types: Lookup::new(TYPES_VALID_FOR),
        }
    }

    /// The id of the image of new instances, or a reference that EC2 resolves.
    pub(super) fn image(
        &self,
        client: &Client,
        settings: &Settings,
        retries: &mut RetryBudget,
    ) -> Result<String, ProviderError> {
        match &settings.image {
            Image::Id(id) => Ok(id.clone()),
            Image::Parameter(name) if !settings.watches_image => Ok(format!("resolve:ssm:{name}")),
            image => self.images.newest(image, || self.search(client, image, retries)),
        }
    }

    /// Searches for the images of new instances, where it matters whether instances have them, if the last search was some
    /// minutes ago.
    pub(super) fn refresh_images<'a>(
        &self,
        client: &Client,
        types: impl Iterator<Item = &'a Settings>,
        retries: &RetryBudget,
    ) {
        let is_searched = |one: &&Settings| one.watches_image && !matches!(one.image, Image::Id(_));
        for image in types.filter(is_searched).map(|settings| &settings.image) {
            self.images.refresh(image, || self.search(client, image, &mut retries.aside()));
        }
    }

    /// Whether a new instance would have another image than `id`, as far as that is known.
    pub(super) fn is_old_image(&self, settings: &Settings, id: &str) -> bool {
        settings.watches_image
            && !id.is_empty()
            && self.images.is_old(&settings.image, &id.to_owned())
    }

    /// A creation has failed: the image may have been withdrawn since it was found.
    pub(super) fn forget_image(&self, settings: &Settings) {
        self.images.forget(&settings.image);
    }

    fn search(
        &self,
        client: &Client,
        image: &Image,
        retries: &mut RetryBudget,
    ) -> Result<String, ProviderError> {
        let (owner, name, architecture) = match image {
            Image::Id(id) => return Ok(id.clone()),
            Image::Parameter(name) => return self.parameter(name, retries),
            Image::Newest { owner, name, architecture } => (owner, name, architecture),
        };
        let mut call = Call::new("DescribeImages")
            .with("Owner.1", owner)
            .filter(1, "name", &[name])
            .filter(2, "state", &["available"]);
        if let Some(architecture) = architecture {
            call = call.filter(3, "architecture", &[architecture]);
        }
        let answer: wire::DescribeImages = client.call(&call, retries)?;
        let newest = answer.images_set.item.into_iter().max_by_key(|one| one.creation_date.clone());
        newest.map(|one| one.image_id).ok_or_else(|| {
            ProviderError::failed(format!(
                "{owner} has no image named {name:?} in this region; see provider.ec2.imageFilter"
            ))
        })
    }

    /// The value of a parameter: an image's id.
    fn parameter(&self, name: &str, retries: &mut RetryBudget) -> Result<String, ProviderError> {
        let call = Call::json("GetParameters", json!({ "Names": [name] }));
        let answer: wire::GetParameters = self.parameters.call(&call, retries)?;
        answer.parameters.into_iter().next().map(|one| one.value).ok_or_else(|| {
            ProviderError::failed(format!(
                "there is no parameter {name:?} in this region; see provider.ec2.imageParameter"
            ))
        })
    }

    /// The instance types of `settings`, in order of preference.
    pub(super) fn instance_types(
        &self,
        client: &Client,
        settings: &Settings,
        retries: &mut RetryBudget,
    ) -> Result<Vec<String>, ProviderError> {
        let Some(wanted) = Wanted::of(settings) else {
            return Ok(settings.instance_types.clone());
        };
        self.types.get(&wanted, || {
            let all = all_types(client, &wanted.requirements.architecture, retries)?;
            let found = choose(&wanted, all);
            if found.is_empty() {
                return Err(ProviderError::failed(
                    "the region has no instance type that meets provider.ec2.instanceRequirements",
                ));
            }
            tracing::info!("instance types that meet instanceRequirements: {}", found.join(", "));
            Ok(found)
        })
    }

    /// The instance types of `settings`, if they are known without a request.
    pub(super) fn known_types(&self, settings: &Settings) -> Vec<String> {
        match Wanted::of(settings) {
            None => settings.instance_types.clone(),
            Some(wanted) => self.types.known(&wanted).unwrap_or_default(),
        }
    }
}

fn all_types(
    client: &Client,
    architecture: &str,
    retries: &mut RetryBudget,
) -> Result<Vec<InstanceType>, ProviderError> {
    let call = Call::new("DescribeInstanceTypes")
        .with("MaxResults", TYPES_PER_PAGE)
        .filter(1, "processor-info.supported-architecture", &[architecture])
        .filter(2, "current-generation", &["true"]);
    let mut types = Vec::new();
    client.pages(&call, retries, |page: wire::DescribeInstanceTypes| {
        types.extend(page.instance_type_set.item);
        page.next_token
    })?;
    Ok(types)
}

/// Whether virtual machines can run on instances of this type with `nestedVirtualization`.
pub(crate) fn can_nest(instance_type: &str) -> bool {
    let family = instance_type.split('.').next().unwrap_or_default();
    NESTING_FAMILIES.contains(&family)
}

/// The smallest types that have what is wanted; of the same size the newest first. Neither bare metal nor accelerators
/// nor types that build fast only for a while.
fn choose(wanted: &Wanted, types: Vec<InstanceType>) -> Vec<String> {
    let Wanted { requirements, nests, hibernates } = wanted;
    let is_plain = |one: &InstanceType| {
        one.current_generation
            && !one.bare_metal
            && !one.burstable_performance_supported
            && one.gpu_info.is_none()
            && one.fpga_info.is_none()
            && one.inference_accelerator_info.is_none()
            && one.neuron_info.is_none()
    };
    let is_enough = |one: &InstanceType| {
        one.cpu.count >= requirements.cpus && one.memory_info.mebibytes >= requirements.memory
    };
    let can_do_all = |one: &InstanceType| {
        (!nests || can_nest(&one.name)) && (!hibernates || one.hibernation_supported)
    };
    let mut types = types;
    types.retain(|one| is_plain(one) && is_enough(one) && can_do_all(one));
    types.sort_by_key(|one| {
        let size = (one.cpu.count, one.memory_info.mebibytes);
        (size, Reverse(generation(&one.name)), one.name.clone())
    });
    types.truncate(MOST_TYPES);
    types.into_iter().map(|one| one.name).collect()
}

/// The number in the family's name: 7 of `c7i.large`.
fn generation(instance_type: &str) -> u32 {
    let digits = instance_type.chars().skip_while(|c| !c.is_ascii_digit());
    let digits: String = digits.take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(name: &str, cpus: u32, mebibytes: u64, more: &str) -> String {
        format!(
            "<item><instanceType>{name}</instanceType><currentGeneration>true</currentGeneration>
             <vCpuInfo><defaultVCpus>{cpus}</defaultVCpus><defaultCores>1</defaultCores></vCpuInfo>
             <memoryInfo><sizeInMiB>{mebibytes}</sizeInMiB></memoryInfo>{more}</item>"
        )
    }

    #[test]
    fn the_smallest_and_newest_types_that_are_enough_are_chosen() {
        let xml = [
            offered("c6a.4xlarge", 16, 32_768, "<hibernationSupported>true</hibernationSupported>"),
            offered("c7i.4xlarge", 16, 32_768, "<bareMetal>false</bareMetal>"),
            offered("m8i.4xlarge", 16, 65_536, ""),
            offered("c7i.2xlarge", 8, 16_384, ""),
            offered("x8g.4xlarge", 16, 16_384, ""),
            offered(
                "t3.4xlarge",
                16,
                65_536,
                "<burstablePerformanceSupported>true</burstablePerformanceSupported>",
            ),
            offered("g6.4xlarge", 16, 65_536, "<gpuInfo><gpus/></gpuInfo>"),
            offered("c7i.metal-24xl", 96, 196_608, "<bareMetal>true</bareMetal>"),
            offered("c8i.8xlarge", 32, 65_536, ""),
        ]
        .join("");
        let xml = format!(
            "<DescribeInstanceTypesResponse><instanceTypeSet>{xml}</instanceTypeSet></DescribeInstanceTypesResponse>"
        );
        let types = || {
            let answer: wire::DescribeInstanceTypes = quick_xml::de::from_str(&xml).unwrap();
            answer.instance_type_set.item
        };
        let architecture = "x86_64".to_owned();
        let requirements = Requirements { cpus: 16, memory: 32_768, architecture };
        let wanted = Wanted { requirements, nests: false, hibernates: false };
        assert_eq!(
            choose(&wanted, types()),
            ["c7i.4xlarge", "c6a.4xlarge", "m8i.4xlarge", "c8i.8xlarge"]
        );
        let nests = Wanted { nests: true, ..wanted.clone() };
        assert_eq!(choose(&nests, types()), ["m8i.4xlarge", "c8i.8xlarge"]);
        let hibernates = Wanted { hibernates: true, ..wanted.clone() };
        assert_eq!(choose(&hibernates, types()), ["c6a.4xlarge"]);
        let requirements = Requirements { cpus: 97, ..wanted.requirements.clone() };
        assert_eq!(choose(&Wanted { requirements, ..wanted }, types()), [""; 0]);
    }
}
