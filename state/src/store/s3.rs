//! Buckets of S3-compatible stores. How to reach one is read from the environment, as other tools do.

use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};

use super::Store;
use super::location::Bucket;
use super::network::Network;
use super::patient::Connector;
use crate::error::StateError;

/// Returns the settings that the environment holds.
pub fn from_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Opens a bucket. That it is there, and that the credentials are good for it, is seen by the first request.
pub fn open(bucket: &Bucket, settings: impl IntoIterator<Item = (String, String)>) -> Result<Store, StateError> {
    let failed = |reason: String| StateError::Storage { act: "open", what: bucket.to_string(), reason };
    let unplain = |error: object_store::Error| StateError::storage("open", bucket.to_string(), &error);
    // Someone else in this process may have chosen already; any choice will do.
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut builder = AmazonS3Builder::new();
    for (name, value) in settings.into_iter().filter(|(name, _)| name.starts_with("AWS_")) {
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    is_allowed(&builder).map_err(failed)?;
    let connector = Connector { patience: bucket.patience };
    let s3 = builder
        .with_bucket_name(&bucket.name)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        // Limits are set where requests are repeated; these bound a whole request, whatever its size.
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), "1 day")
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout), "5 seconds")
        .with_http_connector(connector)
        .build()
        .map_err(unplain)?;
    let objects: Arc<dyn ObjectStore> = match bucket.prefix.as_str() {
        "" => Arc::new(s3),
        prefix => Arc::new(PrefixStore::new(s3, Path::from(prefix))),
    };
    let network = Network::start().map_err(|error| StateError::storage("open", bucket.to_string(), &error))?;
    Ok(Store::remote(objects, bucket.to_string(), network))
}

/// Refuses an endpoint without encryption unless that was asked for: everything else would fail without saying why.
fn is_allowed(builder: &AmazonS3Builder) -> Result<(), String> {
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).unwrap_or_default();
    let allow = builder.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp)).unwrap_or_default();
    let is_plain = endpoint.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("http://"));
    if is_plain && !matches!(allow.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes" | "y") {
        return Err(format!(
            "AWS_ENDPOINT_URL is {endpoint}, over which state would travel unencrypted\n  hint: set AWS_ALLOW_HTTP=true if that is \
             what you want"
        ));
    }
    Ok(())
}
