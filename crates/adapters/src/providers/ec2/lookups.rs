//! What is looked up before a creation: the newest image, and the instance types that meet requirements.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::api::{Call, Client};
use super::settings::{Image, Requirements, Settings};
use super::wire::{self, InstanceType};
use crate::providers::ProviderError;
use crate::providers::cloud::RetryBudget;

/// How long a found image is used before the next search.
const IMAGE_VALID_FOR: Duration = Duration::from_secs(10 * 60);
/// New types appear a few times a year.
const TYPES_VALID_FOR: Duration = Duration::from_secs(12 * 3600);
/// So many types are tried at most.
const MOST_TYPES: usize = 10;
/// The API's maximum.
const TYPES_PER_PAGE: &str = "100";
/// Families in which virtual machines can run on instances that are not bare metal.
const NESTING_FAMILIES: [&str; 6] = ["c8i", "m8i", "r8i", "c8i-flex", "m8i-flex", "r8i-flex"];

/// What was found, and when.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    images: Mutex<BTreeMap<Image, (Instant, String)>>,
    types: Mutex<BTreeMap<TypesWanted, (Instant, Vec<String>)>>,
    /// Held during a search for types: only one at a time, and nothing else waits for it.
    searching: Mutex<()>,
}

/// The requirements, and whether virtual machines can run.
type TypesWanted = (Requirements, bool);

impl Lookups {
    /// The image's id, or a reference that EC2 resolves.
    pub(super) fn image(
        &self,
        client: &Client,
        image: &Image,
        retries: &mut RetryBudget,
    ) -> Result<String, ProviderError> {
        let (owner, name, architecture) = match image {
            Image::Id(id) => return Ok(id.clone()),
            Image::Parameter(name) => return Ok(format!("resolve:ssm:{name}")),
            Image::Newest { owner, name, architecture } => (owner, name, architecture),
        };
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, id)) = images.get(image)
            && since.elapsed() < IMAGE_VALID_FOR
        {
            return Ok(id.clone());
        }
        let mut call = Call::new("DescribeImages")
            .with("Owner.1", owner)
            .filter(1, "name", &[name])
            .filter(2, "state", &["available"]);
        if let Some(architecture) = architecture {
            call = call.filter(3, "architecture", &[architecture]);
        }
        let answer: wire::DescribeImages = client.call(&call, retries)?;
        let newest = answer.images_set.item.into_iter().max_by_key(|one| one.creation_date.clone());
        let id = newest.map(|one| one.image_id).ok_or_else(|| {
            ProviderError::failed(format!(
                "{owner} has no image named {name:?} in this region; see provider.ec2.imageFilter"
            ))
        })?;
        images.insert(image.clone(), (Instant::now(), id.clone()));
        Ok(id)
    }

    /// The instance types of `settings`, in order of preference.
    pub(super) fn instance_types(
        &self,
        client: &Client,
        settings: &Settings,
        retries: &mut RetryBudget,
    ) -> Result<Vec<String>, ProviderError> {
        let Some(requirements) = &settings.requirements else {
            return Ok(settings.instance_types.clone());
        };
        let key = (requirements.clone(), settings.nested_virtualization);
        let _searching = self.searching.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, found)) = self.types().get(&key)
            && since.elapsed() < TYPES_VALID_FOR
        {
            return Ok(found.clone());
        }
        let all = all_types(client, &requirements.architecture, retries)?;
        let found = choose(requirements, settings.nested_virtualization, all);
        if found.is_empty() {
            return Err(ProviderError::failed(
                "the region has no instance type that meets provider.ec2.instanceRequirements",
            ));
        }
        tracing::info!("instance types that meet instanceRequirements: {}", found.join(", "));
        self.types().insert(key, (Instant::now(), found.clone()));
        Ok(found)
    }

    fn types(&self) -> MutexGuard<'_, BTreeMap<TypesWanted, (Instant, Vec<String>)>> {
        self.types.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The instance types of `settings`, if they are known without a request.
    pub(super) fn known_types(&self, settings: &Settings) -> Vec<String> {
        let Some(requirements) = &settings.requirements else {
            return settings.instance_types.clone();
        };
        let key = (requirements.clone(), settings.nested_virtualization);
        self.types().get(&key).map(|(_, found)| found.clone()).unwrap_or_default()
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

/// The smallest types that meet `requirements`; of the same size the newest first. Neither bare metal nor accelerators
/// nor types that build fast only for a while.
fn choose(requirements: &Requirements, nests: bool, types: Vec<InstanceType>) -> Vec<String> {
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
    let mut types = types;
    types.retain(|one| is_plain(one) && is_enough(one) && (!nests || can_nest(&one.name)));
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
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::{fs, thread};

    use serde_json::json;

    use super::*;
    use crate::providers::cloud::Login;
    use crate::providers::ec2::Service;

    /// With credentials of nobody in `folder`.
    fn settings(folder: &std::path::Path, endpoint: &str) -> Settings {
        let credentials = folder.join("credentials");
        fs::write(&credentials, "[default]\naws_access_key_id = A\naws_secret_access_key = s\n")
            .unwrap();
        let settings = json!({
            "region": "eu-central-1", "endpoint": endpoint, "credentialsFile": credentials,
            "image": { "id": "ami-1" }, "instanceTypes": [],
            "requirements": { "cpus": 16, "memory": 1, "architecture": "x86_64" },
            "places": ["anywhere"], "purchase": ["on-demand"], "securityGroups": [],
            "nestedVirtualization": false, "address": "public", "tags": {},
            "login": Login::default(),
        });
        serde_json::from_value(settings).unwrap()
    }

    /// A server that takes a connection and never answers.
    #[test]
    fn known_types_do_not_wait_for_a_search() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let settings = settings(folder.path(), &endpoint);
        let lookups = Arc::new(Lookups::default());
        let limit = Duration::from_secs(20);
        thread::spawn({
            let (lookups, settings) = (Arc::clone(&lookups), settings.clone());
            move || {
                let client = Client::new(&settings, Service::ec2(&settings));
                let mut retries = RetryBudget::new(limit);
                lookups.instance_types(&client, &settings, &mut retries)
            }
        });
        let _connection = listener.accept().unwrap();
        let began = Instant::now();
        assert_eq!(lookups.known_types(&settings), [""; 0]);
        assert!(began.elapsed() < limit / 2, "the search continues");
    }

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
            offered("c6a.4xlarge", 16, 32_768, ""),
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
        assert_eq!(
            choose(&requirements, false, types()),
            ["c7i.4xlarge", "c6a.4xlarge", "m8i.4xlarge", "c8i.8xlarge"]
        );
        assert_eq!(choose(&requirements, true, types()), ["m8i.4xlarge", "c8i.8xlarge"]);
        let more = Requirements { cpus: 97, ..requirements };
        assert_eq!(choose(&more, false, types()), [""; 0]);
    }
}
