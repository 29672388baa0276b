//! Certificates for the tests of what speaks TLS: an authority, and what it issues, in a folder as `--mesh-tls` wants it.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// An authority of its own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    /// Returns a new one.
    ///
    /// # Panics
    /// If there is no randomness.
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("there is randomness");
        let certificate = params.self_signed(&key).expect("the parameters fit").pem();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    /// Writes into `folder` what a process shows that has this name, and by what it knows the others.
    ///
    /// # Panics
    /// If the folder cannot be written.
    pub fn issue(&self, name: &str, folder: &Path) {
        let key = KeyPair::generate().expect("there is randomness");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("it is a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("the parameters fit").pem();
        std::fs::create_dir_all(folder).expect("the test can write");
        for (file, text) in
            [("ca.pem", &self.certificate), ("cert.pem", &certificate), ("key.pem", &key.serialize_pem())]
        {
            std::fs::write(folder.join(file), text).expect("the test can write");
        }
    }
}

impl Default for Authority {
    fn default() -> Authority {
        Authority::new()
    }
}
