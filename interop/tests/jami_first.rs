//! scratch
use anyhow::Result;
use interop::jami::Lab;
#[test]
fn archives() -> Result<()> {
    Lab::run(|lab| {
        Box::pin(async move {
            let mut jamid = lab.jamid("a").await?;
            jamid.add_account(&[]).await?;
            std::fs::create_dir_all("/tmp/jami-archives")?;
            jamid.export("/tmp/jami-archives/plain.gz".as_ref(), "").await?;
            jamid.export("/tmp/jami-archives/sealed-with-secret.gz".as_ref(), "secret").await?;
            std::process::Command::new("cp").args(["-r", jamid.home().to_str().unwrap(), "/tmp/jami-archives/home"]).status()?;
            println!("{} {} {:?}", jamid.uri(), jamid.device(), jamid.devices().await?);
            Ok(())
        })
    })
}
