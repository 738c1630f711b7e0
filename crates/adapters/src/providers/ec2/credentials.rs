//! Signs requests. `reqsign` implements this asynchronously; we give it blocking access to files, HTTP and programs.
//! `profile.rs` decides which credentials are used.

use std::time::Duration;

use bytes::Bytes;
use reqsign_aws_v4::{Credential, RequestSigner};
use reqsign_core::{
    CommandExecute, CommandOutput, Context, Error, FileRead, HttpSend, OsEnv, Result, Signer,
};
use ureq::http::{Request, Response, StatusCode};

use super::profile::Sources;
use super::settings::Settings;
use crate::command::Invocation;
use crate::digest::sha256;
use crate::providers::ProviderError;
use crate::providers::cloud::http::{agent, send};

/// The instance's metadata service answers at once, or does not exist.
const CREDENTIAL_REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// A credential program may use the network.
const CREDENTIAL_COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Signs requests to one service.
#[derive(Debug)]
pub(super) struct Credentials {
    signer: Signer<Credential>,
}

impl Credentials {
    /// Reads nothing yet. Credentials are cached until shortly before they expire.
    pub(super) fn new(settings: &Settings, service: &str, region: &str) -> Self {
        let context = Context::new()
            .with_env(OsEnv)
            .with_file_read(Files)
            .with_http_send(Http)
            .with_command_execute(Programs);
        let signer =
            Signer::new(context, Sources::new(settings), RequestSigner::new(service, region));
        Self { signer }
    }

    /// Signs `request`.
    ///
    /// # Errors
    /// When there are no credentials.
    pub(super) fn sign(
        &self,
        request: Request<Vec<u8>>,
    ) -> std::result::Result<Request<Vec<u8>>, ProviderError> {
        let (mut parts, body) = request.into_parts();
        if let Ok(digest) = sha256(&body).parse() {
            parts.headers.insert("x-amz-content-sha256", digest);
        }
        pollster::block_on(self.signer.sign(&mut parts, None)).map_err(|error| {
            ProviderError::failed(format!(
                "no AWS credentials: {error}; see docs/ec2.md, \"Credentials\""
            ))
        })?;
        Ok(Request::from_parts(parts, body))
    }
}

#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> Result<Vec<u8>> {
        std::fs::read(path)
            .map_err(|error| Error::unexpected(format!("cannot read {path}: {error}")))
    }
}

#[derive(Debug)]
struct Http;

impl HttpSend for Http {
    async fn http_send(&self, request: Request<Bytes>) -> Result<Response<Bytes>> {
        // The instance's metadata and a container's credentials are `http`, here; SSO and STS are `https`, maybe
        // behind a proxy.
        let agent = agent(&request.uri().to_string());
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, body.to_vec());
        let answer = send(&agent, request, CREDENTIAL_REQUEST_LIMIT)
            .map_err(|error| Error::unexpected(format!("cannot ask for credentials: {error}")))?;
        let mut response = Response::new(Bytes::from(answer.body));
        *response.status_mut() = StatusCode::from_u16(answer.status)
            .map_err(|error| Error::unexpected(error.to_string()))?;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }
}

#[derive(Debug)]
struct Programs;

impl CommandExecute for Programs {
    async fn command_execute<'a>(
        &'a self,
        program: &'a str,
        arguments: &'a [&'a str],
    ) -> Result<CommandOutput> {
        let output = Invocation::new(&[program.to_owned()], CREDENTIAL_COMMAND_LIMIT)
            .args(arguments.iter().copied())
            .run()
            .map_err(|error| Error::unexpected(error.to_string()))?;
        Ok(CommandOutput { status: output.code, stdout: output.stdout, stderr: output.stderr })
    }
}
