package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waveproxy/waveproxy/api"
	"github.com/waveproxy/waveproxy/containerconfig"
	"github.com/waveproxy/waveproxy/internal/truststore"
)

const defaultServer = "http://localhost:9090"

func augmentCommand() *cobra.Command {
	var (
		config     containerconfig.Config
		layers     []string
		trusted    []string
		request    api.SubmitRequest
		server     string
		outputJSON bool
		additions  additions
	)
	cmd := &cobra.Command{
		Use:   "augment IMAGE",
		Short: "Ask a server for an augmented image and print the name to pull",
		Example: "  docker run --rm $(waveproxy augment alpine:3.20 --layer ./scripts:/usr/local/bin --env GREETING=hello) greet\n" +
			"  waveproxy augment alpine:3.20 --layer ./tools:/opt/tools --extend-env 'PATH=/opt/tools:${PATH}'\n" +
			"  waveproxy augment ubuntu:24.04 --layer https://example.org/agent.tar.gz -o json\n" +
			"  waveproxy augment quay.io/biocontainers/samtools:1.20--h50ea8bc_0 --fusion 2.6",
		Long: "Ask a server for an augmented image and print the name to pull. WAVEPROXY_LOGIN is\n" +
			"the login for servers that want one: user:password, or a token.",
		Args: cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.StringArrayVar(&layers, "layer", nil, "add files: a `directory` (DIR:/target places it), a .tar, .tar.gz or .tar.zst file, or a URL of one; repeatable")
	f.StringVar(&additions.fusion, "fusion", "", "add this `version` of Fusion, such as 2.6")
	f.StringArrayVar(&additions.documents, "container-config", nil, "add a container config: a JSON `file` or a URL of one, in which {arch} stands for amd64 and arm64; repeatable")
	f.StringArrayVar(&config.Env, "env", nil, "set a variable: `KEY=VALUE`; repeatable")
	f.StringArrayVar(&config.ExtendEnv, "extend-env", nil, "set a variable: `KEY=VALUE`, with ${NAME} for the image's value of NAME and $$ for a dollar; repeatable")
	f.StringArrayVar(&trusted, "certificate", nil, "have programs in the image trust the authorities of a PEM `file`; repeatable")
	f.StringArrayVar(&config.Entrypoint, "entrypoint", nil, "replace the entrypoint; repeat for each `word`")
	f.StringArrayVar(&config.Cmd, "cmd", nil, "replace the command; repeat for each `word`")
	f.StringVar(&config.WorkingDir, "workdir", "", "replace the working `directory`")
	f.StringVar(&request.ContainerPlatform, "platform", "", "augment only these platforms, comma-separated (default: all that the layers fit)")
	f.StringVar(&request.TTL, "ttl", "", "how `long` the image can be pulled, for example 12h (default: as the server is configured)")
	f.StringVar(&server, "server", cmp.Or(os.Getenv("WAVEPROXY_SERVER"), defaultServer), "`URL` of the server; also WAVEPROXY_SERVER")
	output := f.StringP("output", "o", "name", "what to print: name or json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch *output {
		case "json":
			outputJSON = true
		case "name":
		default:
			return fmt.Errorf("--output %q: want name or json", *output)
		}
		for _, spec := range layers {
			layer, err := readLayer(cmd.Context(), spec)
			if err != nil {
				return fmt.Errorf("--layer %s: %w", spec, err)
			}
			config.Layers = append(config.Layers, layer)
		}
		var asked wording
		for _, spec := range layers {
			asked.layers = append(asked.layers, "--layer "+redact(spec))
		}
		var err error
		if config.Certificates, err = authorities(trusted); err != nil {
			return err
		}
		named, err := additions.add(cmd.Context(), &config, request.ContainerPlatform)
		if err != nil {
			return err
		}
		asked.layers = append(asked.layers, named...)
		request.ContainerImage, request.ContainerConfig = args[0], &config
		answer, raw, err := submit(cmd.Context(), server, request, asked)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s is pinned to %s, augmented as %s, until %s\n",
			answer.ContainerImage, answer.SourceDigest, answer.TargetDigest, answer.Expiration)
		if outputJSON {
			_, err = cmd.OutOrStdout().Write(raw)
		} else {
			_, err = fmt.Fprintln(cmd.OutOrStdout(), answer.TargetImage)
		}
		return err
	}
	return cmd
}

// authorities returns the certificates of files, each in PEM.
func authorities(paths []string) (texts []string, err error) {
	for _, path := range paths {
		certificates, err := truststore.ReadFile(path, time.Now())
		if err != nil {
			return nil, fmt.Errorf("--certificate %s: %w", path, err)
		}
		for _, c := range certificates {
			texts = append(texts, string(c.PEM()))
		}
	}
	return texts, nil
}

// submitTimeout bounds a submission: the server may have to fetch layers.
const submitTimeout = 10 * time.Minute

// submit posts the request to a server's API. A refusal is in the words of asked.
func submit(ctx context.Context, server string, request api.SubmitRequest, asked wording) (answer api.SubmitResponse, raw []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, submitTimeout)
	defer cancel()
	body, err := json.Marshal(request)
	if err != nil {
		return answer, nil, fmt.Errorf("encode request: %w", err)
	}
	url := strings.TrimSuffix(server, "/") + "/v1alpha2/container"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return answer, nil, fmt.Errorf("--server: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", userAgent)
	switch user, password, basic := strings.Cut(os.Getenv("WAVEPROXY_LOGIN"), ":"); {
	case basic:
		req.SetBasicAuth(user, password)
	case user != "":
		req.Header.Set("Authorization", "Bearer "+user)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer, nil, fmt.Errorf("no answer from the server; is \"waveproxy serve\" running, or should --server name another? %w", err)
	}
	defer resp.Body.Close()
	raw, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return answer, nil, fmt.Errorf("read the answer of %s: %w", server, err)
	}
	if resp.StatusCode != http.StatusOK {
		return answer, nil, fmt.Errorf("%s: %s", resp.Status, asked.spell(serverMessage(raw)))
	}
	if err := json.Unmarshal(raw, &answer); err != nil || answer.TargetImage == "" {
		return answer, nil, fmt.Errorf("%s did not answer as a waveproxy server does", server)
	}
	return answer, raw, nil
}

// serverMessage returns the message of an API error, or the start of any other
// answer.
func serverMessage(raw []byte) string {
	var body struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(raw, &body) == nil && body.Message != "" {
		return body.Message
	}
	return fmt.Sprintf("%.200q", raw)
}
