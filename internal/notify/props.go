package notify

import (
	"encoding/base64"
	"errors"
	"net/mail"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/property"
)

// Types lists the types of targets.
func Types() []string { return []string{"gotify", "sendmail", "smtp", "webhook"} }

// Matcher is the type of sections that choose targets.
const Matcher = "matcher"

// Properties lists what a section of a type can say in notifications.cfg.
func Properties(typ string) []property.Property {
	list := []property.Property{
		property.Line("comment", "a comment of one line", 128),
		property.Bool("disable", "true: it is not used"),
	}
	letter := []property.Property{
		property.Of("mailto", "an e-mail address that gets the message", isMail).List(),
		property.Of("mailto-user", "a user whose e-mail address gets the message", isUser).List(),
		property.Of("from-address", "the e-mail address of the sender", isMail),
		property.Line("author", "the name of the sender", 128),
	}
	switch typ {
	case Matcher:
		return append(
			list,
			property.Of("match-severity", "info,notice,warning,error,unknown: it is one of them", ruleOf(parseSeverityRule)).List(),
			property.Of("match-field", "exact:FIELD=A,B or regex:FIELD=RE", ruleOf(parseFieldRule)).List(),
			property.Of("match-calendar", "[WEEKDAYS] HH:MM-HH:MM: it is that time of day", ruleOf(parseTimeRule)).List(),
			property.Choice("mode", "whether all of these have to fit, or any", "all", "any"),
			property.Bool("invert-match", "true: it matches where it would not"),
			property.Of("target", "where the message goes", isName).List(),
		)
	case "sendmail":
		return append(list, letter...)
	case "smtp":
		return append(
			append(list, letter...),
			property.Line("server", "name or address of the mail server", 255).Must(),
			property.Int("port", "its port, that of the mode without it", 1, 65535),
			property.Choice("mode", "how it is reached, tls without it", "insecure", "starttls", "tls"),
			property.Line("username", "who logs in", 255),
		)
	case "gotify":
		return append(list, property.Of("server", "address of the Gotify server, https://HOST", isURL).Must())
	case "webhook":
		return append(
			list,
			property.Line("url", "where the request goes, a template", 2048).Must(),
			property.Choice("method", "of the request", "post", "put", "get").Must(),
			property.Of("header", "name=NAME,value=BASE64 of a template", isKeyed).List(),
			property.Of("body", "of the request, base64 of a template", isBase64),
		)
	}
	return nil
}

// SecretProperties lists what a section of a type can say in notifications-priv.cfg.
func SecretProperties(typ string) []property.Property {
	switch typ {
	case "smtp":
		return []property.Property{property.Line("password", "of who logs in", 1024)}
	case "gotify":
		return []property.Property{property.Line("token", "of the application in Gotify", 1024).Must()}
	case "webhook":
		return []property.Property{property.Of("secret", "name=NAME,value=BASE64; without value it stays as it is", isKeyed).List()}
	}
	return nil
}

func isMail(s string) error {
	_, err := mail.ParseAddress(s)
	return err
}

func isUser(s string) error {
	id, err := names.ParseAuthID(s)
	if err == nil && id.IsToken() {
		err = errors.New("want a user, not an API token")
	}
	return err
}

func isName(s string) error {
	if !names.IsSafeID(s) || len(s) < 2 || len(s) > 32 {
		return errors.New("want 2 to 32 letters, digits, '-', '_' or '.'")
	}
	return nil
}

func isKeyed(s string) error {
	_, _, err := keyed(s)
	return err
}

func isBase64(s string) error {
	if _, err := base64.StdEncoding.DecodeString(s); err != nil || strings.ContainsAny(s, "\r\n") {
		return errors.New("want base64 in one line")
	}
	return nil
}

func ruleOf(parse func(string) (rule, error)) func(string) error {
	return func(s string) error {
		_, err := parse(s)
		return err
	}
}
