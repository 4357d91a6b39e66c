//! `towline cert`: certificates and keys in files, as dhtnet-crtmgr makes them.

mod dialogue;
mod files;
mod template;

use std::path::{Path, PathBuf};

use towline::identity::{Chain, Identity, IssueError, KeySize, PrivateKey, Validity};

use crate::args::Cert;
use crate::event::{CertificateIds, Event};
use crate::failure::Failure;
use crate::home::unix_time;
use crate::key_files;
use crate::output::Output;

use files::Pair;

pub(crate) async fn run(args: Cert, output: &Output) -> Result<(), Failure> {
    if args.interactive {
        return dialogue::run(&args, output).await;
    }
    let signer = || -> Result<Option<Identity>, Failure> {
        let Some(certificate) = &args.certificate else { return Ok(None) };
        let key = args
            .private_key
            .as_deref()
            .ok_or_else(|| Failure::Usage("name the private key of the CA with -p".to_owned()))?;
        load_authority(certificate, key, args.password_file.as_deref()).map(Some)
    };
    if args.identifier {
        let certificate = args.certificate.as_deref().expect("-a requires -c");
        let chain = match &args.private_key {
            Some(key) => key_files::load(certificate, key, args.password_file.as_deref())?.chain().clone(),
            None => key_files::chain(certificate)?,
        };
        output.say(&Event::CertificateIds(ids(&chain)));
        return Ok(());
    }
    let directory = args.output.as_deref().expect("one of -o, -a and -i is required");
    let maker = Maker::new(&args, output);
    if args.setup {
        return maker.setup(directory).await.map(drop);
    }
    let signer = signer()?;
    let name = args.name.as_deref().unwrap_or(if signer.is_some() { "certificate" } else { "ca" });
    let pair = Pair::new(directory, name);
    pair.check_free(args.force)?;
    maker.make(&pair, signer.as_ref()).await.map(drop)
}

/// Reads the certificate and the key of a CA.
fn load_authority(certificate: &Path, key: &Path, password: Option<&Path>) -> Result<Identity, Failure> {
    let authority = key_files::load(certificate, key, password)?;
    if authority.chain().leaf().is_ca() {
        Ok(authority)
    } else {
        Err(Failure::Local(format!("{}: {}", certificate.display(), IssueError::NotAuthority)))
    }
}

/// Makes keys and certificates, and tells.
struct Maker<'a> {
    key_size: KeySize,
    force: bool,
    output: &'a Output,
}

impl<'a> Maker<'a> {
    fn new(args: &Cert, output: &'a Output) -> Self {
        let key_size = match &*args.key_size {
            "2048" => KeySize::Rsa2048,
            "3072" => KeySize::Rsa3072,
            _ => KeySize::Rsa4096,
        };
        Self { key_size, force: args.force, output }
    }

    /// A CA and an identity that it signs, where crtmgr puts them. Returns the files of the identity, and who it is.
    async fn setup(&self, directory: &Path) -> Result<(Pair, Identity), Failure> {
        let (authority, device) = server_files(directory);
        authority.check_free(self.force)?;
        device.check_free(self.force)?;
        let signer = self.make(&authority, None).await?;
        let identity = self.make(&device, Some(&signer)).await?;
        Ok((device, identity))
    }

    /// A certificate that `signer` signs, or a CA that signs itself.
    async fn make(&self, pair: &Pair, signer: Option<&Identity>) -> Result<Identity, Failure> {
        let (name, signer, size) = (pair.name.clone(), signer.cloned(), self.key_size);
        let made = tokio::task::spawn_blocking(move || -> Result<Identity, IssueError> {
            let validity = Validity::ten_years_from(unix_time());
            let key = PrivateKey::generate(size)?;
            match signer {
                Some(signer) => signer.issue_device(key, &name, validity),
                None => Identity::self_signed(key, &name, validity),
            }
        });
        let identity = made
            .await
            .map_err(|error| Failure::Internal(format!("making the key broke off: {error}")))?
            .map_err(|error| Failure::Local(format!("cannot make the certificate: {error}")))?;
        pair.write(&identity, self.force)?;
        self.output.say(&Event::CertificateMade {
            name: pair.name.clone(),
            certificate: pair.certificate.clone(),
            key: pair.key.clone(),
            key_bits: self.key_size.bits(),
            ids: ids(identity.chain()),
        });
        Ok(identity)
    }
}

/// The files of a server: of its CA, and of itself.
fn server_files(directory: &Path) -> (Pair, Pair) {
    (Pair::new(&directory.join("CA"), "ca-server"), Pair::new(&directory.join("id"), "id-server"))
}

fn ids(chain: &Chain) -> CertificateIds {
    CertificateIds {
        authority: chain.leaf().is_ca(),
        long_id: chain.device_id().to_string(),
        short_id: chain.short_id().to_string(),
        account: chain.account_id().map(|id| id.to_string()),
    }
}

/// A path as it is from everywhere.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::Local(format!("{}: {error}", path.display())))
}
