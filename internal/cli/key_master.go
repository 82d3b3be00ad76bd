package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/keyfile"
	"github.com/spf13/cobra"
)

const (
	masterPrivateFile = "master-private.pem"
	masterPublicFile  = "master-public.pem"
)

func newMasterCreateCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "create-master-key",
		Short: "Create a pair of master keys",
		Long: `Creates an RSA key pair of 4096 bits in the current directory:
master-private.pem, protected by a password (PBS_MASTER_PASSWORD), and
master-public.pem. Import the public one with 'key import-master-pubkey' on the
machines that back up. Lock the private one away: with it every key in every
backup can be recovered ('key import-with-master-key').`,
		Example:           `  holdfast key create-master-key`,
		Args:              exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runMasterCreate(cmd.Context(), a)
		},
	}
}

func runMasterCreate(ctx context.Context, a *app) error {
	for _, name := range []string{masterPrivateFile, masterPublicFile} {
		if _, err := os.Lstat(name); err == nil {
			return existing(name)
		}
	}
	pw, err := a.secrets().GetNew(ctx, "MASTER_PASSWORD", "new password of the private master key")
	if err != nil {
		return err
	}
	private, public, err := keyfile.GenerateMaster(pw.Reveal())
	if err != nil {
		return err
	}
	if err := a.saveKey(masterPrivateFile, private); err != nil {
		return err
	}
	if err := a.saveKey(masterPublicFile, public); err != nil {
		return hint(err, "remove %s, which is of no use without its public half, and run the command again where there is room", masterPrivateFile)
	}
	return a.print(map[string]string{"private": masterPrivateFile, "public": masterPublicFile}, func() error {
		return a.printf("private master key: %s (lock it away)\npublic master key: %s (for 'holdfast key import-master-pubkey')\n",
			masterPrivateFile, masterPublicFile)
	})
}

func newMasterImportCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "import-master-pubkey FILE",
		Short: "Put the public master key into its default place",
		Long: `Copies a public master key to ~/.config/holdfast/master-public.pem. From then on
every encrypted backup carries a copy of its key, readable with the private
master key only.`,
		Example: `  holdfast key import-master-pubkey master-public.pem`,
		Args:    exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return runMasterImport(a, args[0])
		},
	}
}

func runMasterImport(a *app, path string) error {
	pub, err := readMasterPublic(path)
	if err != nil {
		return err
	}
	to, err := a.newPath(nil, masterKeyName)
	if err != nil {
		return err
	}
	write := a.saveKey
	if _, err := os.Stat(to); err == nil {
		write = a.replaceKey
	}
	if err := write(to, pub); err != nil {
		return err
	}
	return a.print(map[string]string{"path": to}, func() error {
		return a.printf("public master key imported to %s\n", to)
	})
}

// readMasterPublic returns the PEM text of a valid public key.
func readMasterPublic(path string) ([]byte, error) {
	b, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	pub, err := keyfile.ParsePublicPEM(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keyfile.MarshalPublicPEM(pub)
}

func newMasterShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show-master-pubkey [FILE]",
		Short: "Print the public master key",
		Long:  `Prints the public master key in FILE, or the imported one, as PEM text.`,
		Example: `  holdfast key show-master-pubkey
  holdfast key show-master-pubkey master-public.pem`,
		Args: between(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			path := a.defaultFile(masterKeyName)
			if len(args) == 1 {
				path = args[0]
			}
			if path == "" {
				return usagef("no public master key was imported: name its file")
			}
			pub, err := readMasterPublic(path)
			if err != nil {
				return err
			}
			return a.print(map[string]string{"path": path, "pem": string(pub)}, func() error { return a.printf("%s", pub) })
		},
	}
}

type masterRecoverOptions struct {
	keyWriteOptions
	masterFile    string
	encryptedFile string
}

func newMasterRecoverCommand(a *app) *cobra.Command {
	var o masterRecoverOptions
	cmd := &cobra.Command{
		Use:   "import-with-master-key [FILE]",
		Short: "Recover an encryption key with the private master key",
		Long: `Recovers the key of a backup from its archive rsa-encrypted.key and writes it to
FILE, which must not exist. Get that archive first, by
'holdfast restore SNAPSHOT rsa-encrypted.key key.enc'; the file
rsa-encrypted.key.blob of the snapshot's directory is taken as well.

The password of the master key comes from PBS_MASTER_PASSWORD, that of the new
key file from PBS_ENCRYPTION_PASSWORD, or both from the terminal.`,
		Example: `  holdfast key import-with-master-key recovered.json --master-keyfile master-private.pem --encrypted-keyfile key.enc`,
		Args:    between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.masterFile == "" || o.encryptedFile == "" {
				return usagef("--master-keyfile and --encrypted-keyfile are needed")
			}
			if o.path, err = a.newPath(args, keyName); err != nil {
				return err
			}
			return runMasterRecover(cmd.Context(), a, o)
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&o.masterFile, "master-keyfile", "", "the private master key")
	cmd.Flags().StringVar(&o.encryptedFile, "encrypted-keyfile", "", "the encrypted key from a backup")
	return cmd
}

func runMasterRecover(ctx context.Context, a *app, o masterRecoverOptions) error {
	kdf, err := o.parse()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(o.path); err == nil {
		return existing(o.path)
	}
	sealed, err := readKeyFile(o.encryptedFile)
	if err != nil {
		return err
	}
	if plain, err := unwrapBlob(sealed); err == nil {
		sealed = plain
	}
	text, err := readKeyFile(o.masterFile)
	if err != nil {
		return err
	}
	private, err := keyfile.ParsePrivatePEM(text, nil)
	if errors.Is(err, keyfile.ErrNeedPassword) {
		pw, perr := a.secrets().Get(ctx, "MASTER_PASSWORD", "password of the private master key "+o.masterFile)
		if perr != nil {
			return perr
		}
		private, err = keyfile.ParsePrivatePEM(text, pw.Reveal())
	}
	if err != nil {
		return hint(fmt.Errorf("%s: %w", o.masterFile, err), "check PBS_MASTER_PASSWORD, and that this is the private master key")
	}
	key, created, err := keyfile.DecryptWithMaster(private, sealed)
	if err != nil {
		return hint(
			mark(errRefused, "%s: %v", o.encryptedFile, err),
			"use the private key of the master key that was imported when the backup was made",
		)
	}
	return a.storeKey(ctx, o.keyWriteOptions, kdf, key, created, "ENCRYPTION_PASSWORD", false)
}

// unwrapBlob returns what is in a plain blob.
func unwrapBlob(raw []byte) ([]byte, error) {
	d, err := blob.NewDecoder(nil)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Append(nil, raw, maxKeyFile)
}
