//! What a person does with an account of the daemon.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::Jamid;

/// A call with a voice and nothing else.
const VOICE: [(&str, &str); 6] = [
    ("MEDIA_TYPE", "MEDIA_TYPE_AUDIO"),
    ("ENABLED", "true"),
    ("MUTED", "false"),
    ("SOURCE", ""),
    ("LABEL", "audio_0"),
    ("ON_HOLD", "false"),
];

impl Jamid {
    /// Takes an account in as a contact and asks it for the same.
    ///
    /// # Errors
    /// When the daemon does not answer, as everywhere here.
    pub async fn ask(&self, uri: &str) -> Result<()> {
        self.configuration("addContact", &(self.account(), uri)).await?;
        let payload: &[u8] = &[];
        self.configuration("sendTrustRequest", &(self.account(), uri, payload)).await.map(drop)
    }

    /// Accepts the request of an account.
    ///
    /// # Errors
    /// Also when there is none.
    pub async fn accept(&self, uri: &str) -> Result<()> {
        let accepted = self.configuration("acceptTrustRequest", &(self.account(), uri)).await?;
        ensure!(accepted == true, "there is no request of {uri}");
        Ok(())
    }

    /// Throws the request of an account away.
    ///
    /// # Errors
    /// Also when there is none.
    pub async fn refuse(&self, uri: &str) -> Result<()> {
        let refused = self.configuration("discardTrustRequest", &(self.account(), uri)).await?;
        ensure!(refused == true, "there is no request of {uri}");
        Ok(())
    }

    /// Removes a contact, or bans it.
    ///
    /// # Errors
    /// As above.
    pub async fn remove(&self, uri: &str, ban: bool) -> Result<()> {
        self.configuration("removeContact", &(self.account(), uri, ban)).await.map(drop)
    }

    /// What is known of a contact.
    ///
    /// # Errors
    /// As above.
    pub async fn contact(&self, uri: &str) -> Result<BTreeMap<String, String>> {
        let details = self.configuration("getContactDetails", &(self.account(), uri)).await?;
        Ok(serde_json::from_value(details)?)
    }

    /// Asks to be told when an account comes and goes.
    ///
    /// # Errors
    /// As above.
    pub async fn subscribe(&self, uri: &str) -> Result<()> {
        self.presence("subscribeBuddy", &(self.account(), uri, true)).await.map(drop)
    }

    /// Calls an account; the name of the call.
    ///
    /// # Errors
    /// As above.
    pub async fn call(&self, uri: &str) -> Result<String> {
        let media = vec![HashMap::from(VOICE)];
        let call = self.calls("placeCallWithMedia", &(self.account(), uri, media)).await?;
        let call = call.as_str().filter(|call| !call.is_empty()).context("the daemon makes no call")?;
        Ok(call.to_owned())
    }

    /// Says no to a call.
    ///
    /// # Errors
    /// As above.
    pub async fn refuse_call(&self, call: &str) -> Result<()> {
        self.calls("refuse", &(self.account(), call)).await.map(drop)
    }

    /// Ends a call.
    ///
    /// # Errors
    /// As above.
    pub async fn hang_up(&self, call: &str) -> Result<()> {
        self.calls("hangUp", &(self.account(), call)).await.map(drop)
    }

    /// Sends a text outside of any conversation; the number of the message.
    ///
    /// # Errors
    /// As above.
    pub async fn send_text(&self, uri: &str, text: &str) -> Result<u64> {
        let payloads = HashMap::from([("text/plain", text)]);
        let number = self.configuration("sendTextMessage", &(self.account(), uri, payloads)).await?;
        number.as_u64().context("the number of the message")
    }

    /// The devices of its own account: long id and name.
    ///
    /// # Errors
    /// As above.
    pub async fn devices(&self) -> Result<BTreeMap<String, String>> {
        let devices = self.configuration("getKnownRingDevices", &self.account()).await?;
        Ok(serde_json::from_value(devices)?)
    }

    /// Writes the account with its keys into a file; an empty password is none.
    ///
    /// # Errors
    /// Also when it cannot.
    pub async fn export(&self, file: &Path, password: &str) -> Result<()> {
        let file = file.to_str().context("the name of the file is text")?;
        let exported = self.configuration("exportToFile", &(self.account(), file, password)).await?;
        ensure!(exported == true, "the daemon did not export its account");
        Ok(())
    }

    /// Revokes a device of its account, by its long id.
    ///
    /// # Errors
    /// Also when the password of the account is another one.
    pub async fn revoke(&self, password: &str, device: &str) -> Result<()> {
        let mark = self.mark();
        self.configuration("revokeDevice", &(self.account(), password, device)).await?;
        let ended = self.wait(mark, "deviceRevocationEnded", |signal| signal.text(1) == device).await?;
        ensure!(ended.number(2) == 0, "the device was not revoked: {}", ended.number(2));
        Ok(())
    }
}
