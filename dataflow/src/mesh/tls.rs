//! TLS between processes: both sides show a certificate of one authority, which is the mesh's own.
//!
//! Whoever has such a certificate belongs to the mesh, whatever host it is on: names are not checked, for processes move. Timely
//! wants a socket that it can read and write on two threads, which a TLS connection is not. So the connection ends here, in two
//! threads that copy between it and one half of a pair of sockets; the other half is what the rest of the mesh is given.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Connection, DigitallySignedStruct, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme,
};

use super::socket::{InTime, Socket};

/// Bytes that are copied at once.
const PIECE: usize = 64 * 1024;

/// What a process shows the others, and by what it knows them.
#[derive(Clone)]
pub struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads `ca.pem`, `cert.pem` and `key.pem` in `folder`.
    pub fn read(folder: &Path) -> Result<Tls, String> {
        let named = |file: &str| folder.join(file);
        let failed = |file: &str, error: &dyn fmt::Display| {
            format!(
                "cannot use {}: {error}\n  hint: the folder holds ca.pem, cert.pem and key.pem, in PEM",
                named(file).display()
            )
        };
        let certificates = |file: &str| -> Result<Vec<CertificateDer<'static>>, String> {
            let read = CertificateDer::pem_file_iter(named(file)).and_then(Iterator::collect);
            let found: Vec<CertificateDer<'static>> = read.map_err(|error| failed(file, &error))?;
            if found.is_empty() { Err(failed(file, &"there is no certificate in it")) } else { Ok(found) }
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates("ca.pem")? {
            roots.add(certificate).map_err(|error| failed("ca.pem", &error))?;
        }
        let roots = Arc::new(roots);
        let own = certificates("cert.pem")?;
        // The text of a failure says nothing of the key itself.
        let key = PrivateKeyDer::from_pem_file(named("key.pem")).map_err(|error| failed("key.pem", &error))?;
        let provider = Arc::new(ring::default_provider());
        let by_authority = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
        let by_authority = by_authority.map_err(|error| failed("ca.pem", &error))?;
        let callers = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build();
        let callers = callers.map_err(|error| failed("ca.pem", &error))?;
        Ok(Tls {
            client: Arc::new(
                client(provider.clone(), by_authority, own.clone(), key.clone_key())
                    .map_err(|error| failed("cert.pem", &error))?,
            ),
            server: Arc::new(
                ServerConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .and_then(|builder| builder.with_client_cert_verifier(callers).with_single_cert(own, key))
                    .map_err(|error| failed("cert.pem", &error))?,
            ),
        })
    }

    /// Returns a called connection as one that nobody else reads or writes, if the other side is of this mesh.
    pub fn call(&self, socket: Socket, deadline: Instant) -> io::Result<Socket> {
        if let Socket::Unix(_) = socket {
            return Ok(socket);
        }
        // Any name: it is not looked at.
        let name = ServerName::try_from("mesh").map_err(io::Error::other)?;
        let connection = ClientConnection::new(self.client.clone(), name).map_err(io::Error::other)?;
        tunnel(Connection::from(connection), socket, deadline)
    }

    /// Returns an accepted connection as one that nobody else reads or writes, if the other side is of this mesh.
    pub fn accept(&self, socket: Socket, deadline: Instant) -> io::Result<Socket> {
        if let Socket::Unix(_) = socket {
            return Ok(socket);
        }
        let connection = ServerConnection::new(self.server.clone()).map_err(io::Error::other)?;
        tunnel(Connection::from(connection), socket, deadline)
    }
}

fn client(
    provider: Arc<CryptoProvider>,
    by_authority: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, rustls::Error> {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(OfTheMesh(by_authority)))
        .with_client_auth_cert(own, key)
}

/// Takes every certificate of the mesh's authority, whatever name it bears.
#[derive(Debug)]
struct OfTheMesh(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for OfTheMesh {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name is looked at last: with this error all else is in order.
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// A TLS connection whose two directions are copied by two threads.
struct Tunnel {
    connection: Mutex<Connection>,
    /// Held while something is written, so that it leaves in the order in which it was sealed. Always taken before the connection,
    /// which is never held while anybody waits for the network: both sides would wait for each other.
    out: Mutex<Socket>,
}

/// Completes the handshake, and starts the threads.
fn tunnel(mut connection: Connection, mut socket: Socket, deadline: Instant) -> io::Result<Socket> {
    let mut in_time = InTime::of(&mut socket, deadline);
    while connection.is_handshaking() {
        connection.complete_io(&mut in_time)?;
    }
    while connection.wants_write() {
        connection.write_tls(&mut in_time)?;
    }
    socket.limit(None, None)?;
    // What is handed over is sealed at once: nothing gathers in there.
    connection.set_buffer_limit(None);
    let (ours, theirs) = UnixStream::pair()?;
    let reading = socket.again()?;
    let tunnel = Arc::new(Tunnel { connection: Mutex::new(connection), out: Mutex::new(socket) });
    let (inward, outward) = (ours.try_clone()?, ours);
    let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
    // They end with the connection, whichever side ends it.
    let own = tunnel.clone();
    named("mesh-tls-in").spawn(move || own.carry_in(reading, inward))?;
    named("mesh-tls-out").spawn(move || tunnel.carry_out(outward))?;
    Ok(Socket::Unix(theirs))
}

impl Tunnel {
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies what comes from the network, until it ends.
    fn carry_in(&self, mut from: Socket, mut to: UnixStream) {
        let mut sealed = vec![0; PIECE];
        // Something may have come together with the end of the handshake.
        let mut opened = self.open(&[]);
        while let Ok((plain, is_over)) = opened {
            if to.write_all(&plain).is_err() || is_over {
                break;
            }
            self.answer();
            opened = match from.read(&mut sealed) {
                Ok(0) => break,
                Ok(count) => self.open(&sealed[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.open(&[]),
                Err(error) => Err(error),
            };
        }
        // Whoever reads from it sees the end.
        to.shutdown(Shutdown::Write).ok();
    }

    /// Opens what came. Returns it, and whether the other side has said that nothing follows.
    fn open(&self, mut sealed: &[u8]) -> io::Result<(Vec<u8>, bool)> {
        let mut connection = self.connection();
        let mut plain = Vec::new();
        loop {
            let state = connection.process_new_packets().map_err(io::Error::other)?;
            let begin = plain.len();
            plain.resize(begin + state.plaintext_bytes_to_read(), 0);
            connection.reader().read_exact(&mut plain[begin..])?;
            if sealed.is_empty() || state.peer_has_closed() {
                return Ok((plain, state.peer_has_closed()));
            }
            connection.read_tls(&mut sealed)?;
        }
    }

    /// Sends what TLS itself has to say, if nobody is writing: who is sends it along.
    fn answer(&self) {
        let Ok(mut out) = self.out.try_lock() else { return };
        // If this fails so will the next read.
        self.seal(&[]).and_then(|sealed| out.write_all(&sealed)).ok();
    }

    /// Copies what goes to the network, until it ends.
    fn carry_out(&self, mut from: UnixStream) {
        let mut plain = vec![0; PIECE];
        loop {
            let count = match from.read(&mut plain) {
                Ok(count @ 1..) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(_) | Err(_) => break,
            };
            let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
            if self.seal(&plain[..count]).and_then(|sealed| out.write_all(&sealed)).is_err() {
                break;
            }
        }
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        self.connection().send_close_notify();
        // It may be gone already.
        self.seal(&[]).and_then(|sealed| out.write_all(&sealed)).ok();
        out.close(Shutdown::Write).ok();
        from.shutdown(Shutdown::Read).ok();
    }

    fn seal(&self, plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut connection = self.connection();
        connection.writer().write_all(plain)?;
        let mut sealed = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut sealed)?;
        }
        Ok(sealed)
    }
}
