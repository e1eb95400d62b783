//! A mail server.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use hospital_kit::{
    config::{SmtpConfig, SmtpTls},
    outcome::Broken,
};
use lettre::{
    Message,
    address::Envelope,
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, TlsParameters},
        extension::{ClientId, Extension},
    },
};
use tokio::time::timeout;

use super::{Letterhead, Messenger, NotSent, Outgoing};

/// How many messages are with the server at a time.
const AT_ONCE: usize = 16;
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
/// How long one message may take, from connecting to the server's last word. One that was taken
/// behind our back is sent again, so this is more than a busy server takes.
const SENT_WITHIN: Duration = Duration::from_secs(30);
/// How long a connection is kept for the next message.
const IDLE: Duration = Duration::from_secs(60);

/// Speaks with the server over connections of its own. The client library's transport waits for an
/// answer without an end, and what is given up on it comes back for the next message, in the middle
/// of the one before.
pub(crate) struct Smtp {
    host: String,
    port: u16,
    tls: Option<(SmtpTls, TlsParameters)>,
    credentials: Option<Credentials>,
    /// How this machine introduces itself.
    name: ClientId,
    idle: Mutex<Vec<(Instant, AsyncSmtpConnection)>>,
    letterhead: Letterhead,
    sent_within: Duration,
}

impl Smtp {
    pub(crate) fn new(config: &SmtpConfig, letterhead: Letterhead) -> Result<Self, Broken> {
        let wrong = |e| Broken::defect("reading notification.smtp", e);
        let tls = match config.tls {
            SmtpTls::None => None,
            kind => Some((kind, TlsParameters::new(config.host.clone()).map_err(wrong)?)),
        };
        let credentials = match (&config.username, &config.password_file) {
            (Some(username), Some(file)) => {
                let password = std::fs::read_to_string(file)
                    .map_err(|e| Broken::defect("reading notification.smtp.password_file", e))?;
                Some(Credentials::new(username.clone(), password.trim().to_owned()))
            }
            _ => None,
        };
        Ok(Self {
            host: config.host.clone(),
            port: config.port,
            tls,
            credentials,
            name: ClientId::default(),
            idle: Mutex::default(),
            letterhead,
            sent_within: SENT_WITHIN,
        })
    }

    async fn send_one(&self, message: Outgoing) -> Result<(), NotSent> {
        let letter = self.letterhead.letter(&message)?;
        match timeout(self.sent_within, self.deliver(&letter)).await {
            Ok(delivered) => delivered,
            // The connection went with the attempt: nobody knows what the server would say next.
            Err(_) => {
                Err(NotSent::Later(format!("the mail server: no answer in {:?}", self.sent_within)))
            }
        }
    }

    async fn deliver(&self, letter: &Message) -> Result<(), NotSent> {
        // Whatever is wrong with the connection is not this message's fault, even if the server
        // calls it permanent.
        let mut server = self.connection().await.map_err(|e| NotSent::Later(said(&e)))?;
        let supports = |what| server.server_info().supports_feature(what);
        let international = supports(Extension::SmtpUtfEight) && supports(Extension::EightBitMime);
        if !international && !is_ascii(letter.envelope()) {
            self.park(server);
            let why = "the mail server takes no address with other letters than ASCII before \
                       the @ (SMTPUTF8)";
            return Err(NotSent::Never(why.to_owned()));
        }
        let sent = server.send(letter.envelope(), &letter.formatted()).await;
        if !server.has_broken() {
            self.park(server);
        }
        sent.map(drop).map_err(|e| {
            let said = said(&e);
            if e.is_permanent() { NotSent::Never(said) } else { NotSent::Later(said) }
        })
    }

    /// A connection that another message has left and that still answers, or a new one.
    async fn connection(&self) -> Result<AsyncSmtpConnection, Error> {
        while let Some((since, mut server)) = self.take() {
            if since.elapsed() < IDLE && server.test_connected().await {
                return Ok(server);
            }
        }
        let address = (self.host.as_str(), self.port);
        let within = Some(CONNECTED_WITHIN);
        let mut server = match &self.tls {
            Some((SmtpTls::Tls, tls)) => {
                let tls = Some(tls.clone());
                AsyncSmtpConnection::connect_tokio1(address, within, &self.name, tls, None).await?
            }
            _ => {
                AsyncSmtpConnection::connect_tokio1(address, within, &self.name, None, None).await?
            }
        };
        if let Some((SmtpTls::Starttls, tls)) = &self.tls {
            server.starttls(tls.clone(), &self.name).await?;
        }
        if let Some(credentials) = &self.credentials {
            server.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(server)
    }

    /// The one that was left last: others grow old and are closed.
    fn take(&self) -> Option<(Instant, AsyncSmtpConnection)> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn park(&self, server: AsyncSmtpConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, _)| since.elapsed() < IDLE);
        idle.push((Instant::now(), server));
    }
}

/// Whether every server can be told who sends and who receives.
fn is_ascii(envelope: &Envelope) -> bool {
    envelope.from().into_iter().chain(envelope.to()).all(|address| {
        let address: &str = address.as_ref();
        address.is_ascii()
    })
}

/// What went wrong, without the server's own text, which may quote the address: its code says
/// enough.
fn said(error: &Error) -> String {
    let what = match error.status() {
        Some(code) => code.to_string(),
        // Said by our own side, of the server and not of the message.
        None if error.is_client() => error.to_string(),
        None => "no answer".to_owned(),
    };
    format!("the mail server: {what}")
}

#[async_trait]
impl Messenger for Smtp {
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<Result<(), NotSent>> {
        let sending = messages.into_iter().map(|message| self.send_one(message));
        stream::iter(sending).buffered(AT_ONCE).collect().await
    }
}

#[cfg(test)]
mod tests {
    use hospital_testkit::mail_server::{MailServer, Mood};
    use hospital_types::{NotificationId, Sensitive};
    use jiff::Timestamp;
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    fn smtp(config: &SmtpConfig) -> Smtp {
        let letterhead = Letterhead::new("hospital@hospital.example", "hospital.example").unwrap();
        Smtp { sent_within: Duration::from_secs(2), ..Smtp::new(config, letterhead).unwrap() }
    }

    fn to(recipient: &str) -> Outgoing {
        Outgoing {
            id: NotificationId::new(),
            recipient: Sensitive::new(recipient.to_owned()),
            subject: "Your appointment".to_owned(),
            body: "Hello".to_owned(),
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    async fn send(smtp: &Smtp, recipient: &str) -> Result<(), NotSent> {
        smtp.send(vec![to(recipient)]).await.remove(0)
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_more_is_given_up_and_spoils_no_other_message() {
        let server = MailServer::start(&[Mood::Stalls, Mood::Accepts]).await;
        let smtp = smtp(&server.config());
        let given_up = send(&smtp, "ann@example.org").await;
        assert_eq!(given_up, Err(NotSent::Later("the mail server: no answer in 2s".into())));
        assert_eq!(send(&smtp, "zoe@example.org").await, Ok(()));
        assert_eq!(send(&smtp, "zoe@example.org").await, Ok(()));
        let recipients: Vec<_> = server.envelopes().into_iter().map(|(_, to)| to).collect();
        let zoe = "RCPT TO:<zoe@example.org>";
        assert_eq!(recipients, ["RCPT TO:<ann@example.org>", zoe, zoe]);
        assert!(server.taken().iter().skip(1).all(|letter| letter.starts_with("From: ")));
        assert_eq!(server.connections(), 2, "a good one is used again");
    }

    #[tokio::test]
    async fn a_server_that_takes_nobody_at_the_moment_makes_no_message_dead() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = SmtpConfig {
            host: address.ip().to_string(),
            port: address.port(),
            tls: SmtpTls::None,
            username: None,
            password_file: None,
        };
        let (smtp, refused) = (smtp(&config), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"554 no service here\r\n").await.unwrap();
        });
        let (sent, ()) = tokio::join!(send(&smtp, "zoe@example.org"), refused);
        assert_eq!(sent, Err(NotSent::Later("the mail server: 554".into())));
    }

    #[tokio::test]
    async fn an_international_address_is_delivered_by_a_server_that_takes_them() {
        let server = MailServer::start_international(&[Mood::Accepts]).await;
        let smtp = smtp(&server.config());
        assert_eq!(send(&smtp, "用户@例子.example").await, Ok(()));
        assert_eq!(send(&smtp, "user@münchen.example").await, Ok(()));
        let from = "MAIL FROM:<hospital@hospital.example>";
        let envelopes = [
            (format!("{from} SMTPUTF8 BODY=8BITMIME"), "RCPT TO:<用户@xn--fsqu00a.example>"),
            (from.to_owned(), "RCPT TO:<user@xn--mnchen-3ya.example>"),
        ];
        assert_eq!(server.envelopes(), envelopes.map(|(from, to)| (from, to.to_owned())));
        assert!(server.taken()[0].contains("To: 用户@xn--fsqu00a.example\n"));
    }

    #[tokio::test]
    async fn any_server_takes_an_international_domain_and_a_name_that_it_does_not_take_is_told_so()
    {
        let server = MailServer::start(&[Mood::Accepts]).await;
        let smtp = smtp(&server.config());
        assert_eq!(send(&smtp, "user@münchen.example").await, Ok(()));
        let refused = send(&smtp, "用户@例子.example").await;
        let Err(NotSent::Never(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains("SMTPUTF8") && !why.contains("用户"), "{why}");
        assert_eq!(server.taken().len(), 1, "it was not even offered");
    }
}
