// Package metrics counts what the server does, for Prometheus.
//
// Labels have few values: no image, client, token or upstream host may become
// one, because clients choose those, and the counts are kept for ever. Recipes are the
// configuration's.
package metrics

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/waveproxy/waveproxy/front"
)

// Metrics is a set of counters. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	bytes    *prometheus.CounterVec
	pinned   prometheus.Counter
	recipes  *prometheus.GaugeVec

	collections, collectedFiles, collectedBytes prometheus.Counter
}

// New returns counters at zero, with those of the Go runtime and the process.
func New(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "waveproxy_http_requests_total",
			Help: "Requests answered, by kind of resource and status. Status 499 means that the client left before the answer.",
		}, []string{"kind", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "waveproxy_http_request_seconds",
			Help:    "Time to the end of the answer, by kind of resource. Blobs take as long as clients read.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9), // 1 ms to 65 s
		}, []string{"kind"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "waveproxy_blob_bytes_total",
			Help: "Bytes of blobs sent to clients, by their source.",
		}, []string{"source"}),
	}
	m.pinned = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "waveproxy_untouched_manifests_total",
		Help: "Manifests and indexes sent unchanged under a recipe's name, because they were requested by their upstream digest. HEAD is not counted.",
	})
	m.recipes = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "waveproxy_recipe_loaded",
		Help: "1 for each recipe in force, 0 for one whose pulls are refused because it could not be loaded yet.",
	}, []string{"recipe"})
	m.collections = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "waveproxy_collections_total", Help: "Collections of the storage by this server, whether or not there was something to delete.",
	})
	m.collectedFiles = prometheus.NewCounter(prometheus.CounterOpts{Name: "waveproxy_collected_files_total", Help: "Files that this server's collections have deleted."})
	m.collectedBytes = prometheus.NewCounter(prometheus.CounterOpts{Name: "waveproxy_collected_bytes_total", Help: "Bytes of the files that this server's collections have deleted."})
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "waveproxy_build_info", Help: "1, with the version.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(m.requests, m.seconds, m.bytes, m.pinned, m.recipes, build, m.collections, m.collectedFiles, m.collectedBytes,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Observe counts a request that has ended.
func (m *Metrics) Observe(r front.Request) {
	m.requests.WithLabelValues(r.Kind, strconv.Itoa(r.Status)).Inc()
	m.seconds.WithLabelValues(r.Kind).Observe(r.Took.Seconds())
	if r.Untouched {
		m.pinned.Inc()
	}
	if r.Source != "" {
		m.bytes.WithLabelValues(r.Source).Add(float64(r.Bytes))
	}
}

// Recipes tells which recipes of the configuration are loaded and which wait.
func (m *Metrics) Recipes(loaded, waiting []string) {
	m.recipes.Reset()
	for _, name := range loaded {
		m.recipes.WithLabelValues(name).Set(1)
	}
	for _, name := range waiting {
		m.recipes.WithLabelValues(name).Set(0)
	}
}

// Collected counts a collection of the storage, which may have failed half way.
func (m *Metrics) Collected(files, bytes int64) {
	m.collections.Inc()
	m.collectedFiles.Add(float64(files))
	m.collectedBytes.Add(float64(bytes))
}

// Handler answers with the counters as Prometheus reads them.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Timeout: 10 * time.Second})
}
