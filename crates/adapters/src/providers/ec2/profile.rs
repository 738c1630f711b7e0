//! Where credentials come from: the environment, a profile, then what this host is given (a web identity, a container's or the
//! instance's role). `reqsign` tries the next source if one fails; a profile that fails is an error here, because the next
//! source may belong to another account.

use std::collections::BTreeMap;

use reqsign_aws_v4::{
    Credential, DefaultCredentialProvider, ProcessCredentialProvider, SSOCredentialProvider,
    StaticCredentialProvider,
};
use reqsign_core::{Context, Error, ProvideCredential, Result};

use super::settings::Settings;

/// The settings of one profile.
type Profile = BTreeMap<String, String>;

/// The sources of credentials.
#[derive(Debug)]
pub(super) struct Sources {
    /// `profile` in `conf.nix`.
    profile: Option<String>,
    /// `credentialsFile`: then nothing else is used.
    file: Option<String>,
    /// What is used if the profile has no credentials.
    others: DefaultCredentialProvider,
}

impl Sources {
    pub(super) fn new(settings: &Settings) -> Self {
        let others = DefaultCredentialProvider::builder().no_profile().no_sso().no_process();
        // Settings in conf.nix take precedence over the environment.
        let others = if settings.profile.is_some() { others.no_env() } else { others };
        Self {
            profile: settings.profile.clone(),
            file: settings.credentials_file.as_ref().map(|file| file.display().to_string()),
            others: others.build(),
        }
    }

    /// Its settings, and the files that were read. Only a profile that was asked for by name must exist.
    async fn read(&self, name: &str, context: &Context) -> Result<(Profile, String)> {
        let config_heading = match name {
            "default" => name.to_owned(),
            _ => format!("profile {name}"),
        };
        let mut profile = None;
        let mut files = Vec::new();
        if let Some(file) = &self.file {
            let text = context.file_read_as_string(file).await?;
            profile = section(&text, name).or_else(|| section(&text, &config_heading));
            files.push(file.clone());
        } else {
            for (variable, default, heading) in [
                ("AWS_CONFIG_FILE", "~/.aws/config", config_heading.as_str()),
                ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", name),
            ] {
                let file = context.env_var(variable).unwrap_or_else(|| default.to_owned());
                let Some(file) = context.expand_home_dir(&file) else { continue };
                // One that cannot be read counts as absent, as for AWS' own programs.
                let text = context.file_read_as_string(&file).await.unwrap_or_default();
                if let Some(part) = section(&text, heading) {
                    profile.get_or_insert_with(Profile::new).extend(part);
                }
                files.push(file);
            }
        }
        let files = files.join(" and ");
        let is_wanted = self.file.is_some()
            || self.profile.is_some()
            || context.env_var("AWS_PROFILE").is_some();
        match profile {
            None if is_wanted => Err(Error::config_invalid(format!(
                "there is no profile {name} in {files} (provider.ec2.profile, or AWS_PROFILE)"
            ))),
            profile => Ok((profile.unwrap_or_default(), files)),
        }
    }
}

impl ProvideCredential for Sources {
    type Credential = Credential;

    async fn provide_credential(&self, context: &Context) -> Result<Option<Credential>> {
        let has_keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
            .iter()
            .all(|variable| context.env_var(variable).is_some());
        if has_keys && self.file.is_none() && self.profile.is_none() {
            return self.others.provide_credential(context).await;
        }
        let name = self.profile.clone().or_else(|| context.env_var("AWS_PROFILE"));
        let name = name.unwrap_or_else(|| "default".to_owned());
        let (profile, files) = self.read(&name, context).await?;
        let found = of_profile(&profile, &name, &files, context).await?;
        match found {
            None if self.file.is_some() => Err(Error::config_invalid(format!(
                "profile {name} in {files} has neither aws_access_key_id and aws_secret_access_key nor credential_process"
            ))),
            None => self.others.provide_credential(context).await,
            found => Ok(found),
        }
    }
}

/// The credentials of a profile; `None` if it has no setting for them.
async fn of_profile(
    profile: &Profile,
    name: &str,
    files: &str,
    context: &Context,
) -> Result<Option<Credential>> {
    let process = profile.get("credential_process");
    let keys = profile.get("aws_access_key_id").zip(profile.get("aws_secret_access_key"));
    let unsupported = |setting: &str| {
        Error::config_invalid(format!(
            "profile {name} in {files} has {setting}, which is not supported. Add a profile with `credential_process = aws \
             configure export-credentials --profile {name} --format process`, and set provider.ec2.profile to its name"
        ))
    };
    // With a process in the same profile, that takes care of the role.
    if profile.contains_key("role_arn") && (process.is_none() || keys.is_some()) {
        return Err(unsupported("role_arn"));
    }
    if let Some((id, secret)) = keys {
        let keys = StaticCredentialProvider::new(id, secret);
        return match profile.get("aws_session_token") {
            Some(token) => keys.with_session_token(token).provide_credential(context).await,
            None => keys.provide_credential(context).await,
        };
    }
    if let Some(command) = process {
        let process = ProcessCredentialProvider::new().with_command(command);
        return process.provide_credential(context).await;
    }
    if profile.contains_key("sso_start_url") {
        let sso = SSOCredentialProvider::new().with_profile(name);
        let credential = sso.provide_credential(context).await?;
        return credential.map(Some).ok_or_else(|| {
            Error::config_invalid(format!(
                "profile {name} in {files} uses SSO, and there is no valid login: `aws sso login --profile {name}`"
            ))
        });
    }
    if profile.contains_key("sso_session") {
        return Err(unsupported("sso_session"));
    }
    Ok(None)
}

/// The settings below `[heading]`, if there is such a section.
fn section(text: &str, heading: &str) -> Option<Profile> {
    let mut profile = None;
    let mut is_ours = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            let name = name.split(']').next().unwrap_or_default();
            is_ours = name.split_whitespace().eq(heading.split_whitespace());
            if is_ours {
                profile.get_or_insert_with(Profile::new);
            }
        } else if is_ours
            && !line.starts_with(['#', ';'])
            && let Some((key, value)) = line.split_once('=')
        {
            let settings = profile.get_or_insert_with(Profile::new);
            settings.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    profile
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::PathBuf;

    use reqsign_core::{CommandExecute, CommandOutput, FileRead, StaticEnv};

    use super::*;

    #[derive(Debug)]
    struct Files(BTreeMap<&'static str, &'static str>);

    impl FileRead for Files {
        async fn file_read(&self, path: &str) -> Result<Vec<u8>> {
            let text = self.0.get(path).ok_or_else(|| Error::unexpected(format!("no {path}")))?;
            Ok(text.as_bytes().to_vec())
        }
    }

    #[derive(Debug)]
    struct Programs;

    impl CommandExecute for Programs {
        async fn command_execute<'a>(
            &'a self,
            program: &'a str,
            _: &'a [&'a str],
        ) -> Result<CommandOutput> {
            let answer = br#"{"Version": 1, "AccessKeyId": "OF_PROCESS", "SecretAccessKey": "s"}"#;
            let status = i32::from(program == "false");
            Ok(CommandOutput { status, stdout: answer.to_vec(), stderr: b"expired".to_vec() })
        }
    }

    /// What is set beside the files.
    #[derive(Default)]
    struct Given {
        profile: Option<&'static str>,
        file: Option<&'static str>,
        environment: &'static [(&'static str, &'static str)],
    }

    /// The access key that is used, or the error. This host has no role.
    fn used(given: &Given, files: &[(&'static str, &'static str)]) -> String {
        let environment = given.environment.iter();
        let envs: HashMap<_, _> =
            environment.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let context = Context::new()
            .with_file_read(Files(files.iter().copied().collect()))
            .with_command_execute(Programs)
            .with_env(StaticEnv { home_dir: Some(PathBuf::from("/root")), envs });
        let others = DefaultCredentialProvider::builder().no_profile().no_sso().no_process();
        let sources = Sources {
            profile: given.profile.map(str::to_owned),
            file: given.file.map(str::to_owned),
            others: others.no_web_identity().no_ecs().no_imds().build(),
        };
        match pollster::block_on(sources.provide_credential(&context)) {
            Ok(Some(credential)) => credential.access_key_id,
            Ok(None) => "none".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    const CONFIG: &str = "/root/.aws/config";
    const KEYS: &str = "/root/.aws/credentials";
    const FARM: Given = Given { profile: Some("farm"), file: None, environment: &[] };

    #[test]
    fn what_would_be_skipped_is_an_error() {
        let remedy = "aws configure export-credentials --profile farm --format process";
        for (config, setting) in [
            ("[profile farm]\nrole_arn = arn\nsource_profile = base\n", "role_arn"),
            ("[profile farm]\nrole_arn=arn\ncredential_source=Ec2InstanceMetadata\n", "role_arn"),
            ("[profile farm]\nsso_session = us\nsso_account_id = 1\n", "sso_session"),
            (
                "[ profile  farm ]\naws_access_key_id = A\naws_secret_access_key = s\nrole_arn = arn",
                "role_arn",
            ),
        ] {
            let said = used(&FARM, &[(CONFIG, config), (KEYS, "[base]\naws_access_key_id = A\n")]);
            for part in ["profile farm", setting, remedy, CONFIG] {
                assert!(said.contains(part), "{config}: {said}");
            }
        }
        let config = "[default]\nrole_arn = arn\n";
        assert!(used(&Given::default(), &[(CONFIG, config)]).contains("profile default"));
    }

    #[test]
    fn a_profile_that_fails_is_an_error() {
        for (config, error) in [
            ("[profile farm]\ncredential_process = false\n", "status 1: expired"),
            ("[profile farm]\nsso_start_url = https://x\n", "SSO"),
            ("[profile other]\n", "there is no profile farm in /root/.aws/config and /root/.aws"),
        ] {
            let said = used(&FARM, &[(CONFIG, config)]);
            assert!(said.contains(error), "{config}: {said}");
        }
    }

    #[test]
    fn sources_have_an_order() {
        let keys = "[farm]\naws_access_key_id = OF_FARM\naws_secret_access_key = s\n\
                    [default]\naws_access_key_id=OF_DEFAULT\naws_secret_access_key=s\n";
        let environment: &[_] = &[("AWS_ACCESS_KEY_ID", "OF_ENV"), ("AWS_SECRET_ACCESS_KEY", "s")];
        let by_name: &[_] = &[("AWS_PROFILE", "farm")];
        let nothing = Given::default();
        assert_eq!(used(&nothing, &[(KEYS, keys)]), "OF_DEFAULT");
        assert_eq!(used(&FARM, &[(KEYS, keys)]), "OF_FARM");
        assert_eq!(used(&Given { environment: by_name, ..nothing }, &[(KEYS, keys)]), "OF_FARM");
        assert_eq!(used(&Given { environment, ..nothing }, &[(KEYS, keys)]), "OF_ENV");
        assert_eq!(used(&Given { environment, ..FARM }, &[(KEYS, keys)]), "OF_FARM");
        let process = "[profile farm]\ncredential_process = p\nrole_arn = arn\n";
        assert_eq!(used(&FARM, &[(CONFIG, process)]), "OF_PROCESS");
        assert_eq!(used(&FARM, &[(CONFIG, "[profile farm]\nregion = x\n")]), "none");
        assert_eq!(used(&nothing, &[]), "none");
    }

    #[test]
    fn a_credentials_file_is_the_only_source() {
        let given = Given { file: Some("/run/aws"), ..Given::default() };
        let keys = "[default]\naws_access_key_id = OTHER\naws_secret_access_key = s\n";
        for (text, expected) in [
            ("[default]\naws_access_key_id = OF_FILE\naws_secret_access_key = s\n", "OF_FILE"),
            ("[default]\n; for us\ncredential_process = p\n", "OF_PROCESS"),
            ("[farm]\naws_access_key_id = A\n", "there is no profile default in /run/aws"),
            ("[default]\nregion = x\n", "profile default in /run/aws has neither"),
            ("[default]\nrole_arn = x\n", "has role_arn, which is not supported"),
        ] {
            let said = used(&given, &[("/run/aws", text), (KEYS, keys)]);
            assert!(said.contains(expected), "{text}: {said}");
        }
        assert_eq!(used(&given, &[(KEYS, keys)]), "no /run/aws");
    }
}
