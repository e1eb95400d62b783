//! A mail server.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use hospital_kit::{
    config::{SmtpConfig, SmtpTls},
    outcome::Broken,
};
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Tokio1Executor,
    transport::smtp::{authentication::Credentials, client::Tls},
};

use super::{Letterhead, Messenger, NotSent, Outgoing};

/// How many messages are with the server at a time.
const AT_ONCE: usize = 16;

pub(crate) struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    letterhead: Letterhead,
}

impl Smtp {
    pub(crate) fn new(config: &SmtpConfig, letterhead: Letterhead) -> Result<Self, Broken> {
        let wrong = |e| Broken::defect("reading notification.smtp", e);
        type Transport = AsyncSmtpTransport<Tokio1Executor>;
        let mut builder = match config.tls {
            SmtpTls::None => Transport::builder_dangerous(&config.host).tls(Tls::None),
            SmtpTls::Starttls => Transport::starttls_relay(&config.host).map_err(wrong)?,
            SmtpTls::Tls => Transport::relay(&config.host).map_err(wrong)?,
        };
        builder = builder.port(config.port).timeout(Some(Duration::from_secs(10)));
        if let (Some(username), Some(file)) = (&config.username, &config.password_file) {
            let password = std::fs::read_to_string(file)
                .map_err(|e| Broken::defect("reading notification.smtp.password_file", e))?;
            builder =
                builder.credentials(Credentials::new(username.clone(), password.trim().to_owned()));
        }
        Ok(Self { transport: builder.build(), letterhead })
    }

    async fn send_one(&self, message: Outgoing) -> Result<(), NotSent> {
        let letter = self.letterhead.letter(&message)?;
        match self.transport.send(letter).await {
            Ok(_) => Ok(()),
            // The server's own text may quote the address; its code says enough.
            Err(e) => {
                let code =
                    e.status().map_or_else(|| "no answer".to_owned(), |code| code.to_string());
                let said = format!("the mail server: {code}");
                Err(if e.is_permanent() { NotSent::Never(said) } else { NotSent::Later(said) })
            }
        }
    }
}

#[async_trait]
impl Messenger for Smtp {
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<Result<(), NotSent>> {
        let sending = messages.into_iter().map(|message| self.send_one(message));
        stream::iter(sending).buffered(AT_ONCE).collect().await
    }
}
