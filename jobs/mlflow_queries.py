"""The GraphQL documents of MLflow's pages, of the pinned version.

The site sends MLflow these texts and never one that a client wrote. A test compares them with the scripts of the installed
MLflow, so that a new version with other queries is noticed when it is pinned.
"""

DOCUMENTS = {
    "GetRun": """
query GetRun($data: MlflowGetRunInput!) @component(name: "MLflow.ExperimentRunTracking") {
  mlflowGetRun(input: $data) {
    apiError {
      helpUrl
      code
      message
    }
    run {
      info {
        runName
        status
        runUuid
        experimentId
        artifactUri
        endTime
        lifecycleStage
        startTime
        userId
      }
      experiment {
        experimentId
        name
        tags {
          key
          value
        }
        artifactLocation
        lifecycleStage
        lastUpdateTime
      }
      modelVersions {
        status
        version
        name
        source
      }
      data {
        metrics {
          key
          value
          step
          timestamp
        }
        params {
          key
          value
        }
        tags {
          key
          value
        }
      }
      inputs {
        datasetInputs {
          dataset {
            digest
            name
            profile
            schema
            source
            sourceType
          }
          tags {
            key
            value
          }
        }
        modelInputs {
          modelId
        }
      }
      outputs {
        modelOutputs {
          modelId
          step
        }
      }
    }
  }
}
""",
    "MlflowGetExperimentQuery": """
query MlflowGetExperimentQuery($input: MlflowGetExperimentInput!) @component(name: "MLflow.ExperimentRunTracking") {
  mlflowGetExperiment(input: $input) {
    apiError {
      code
      message
    }
    experiment {
      artifactLocation
      creationTime
      effectiveTraceArchivalRetention
      experimentId
      lastUpdateTime
      lifecycleStage
      name
      tags {
        key
        value
      }
    }
  }
}
""",
    "GetMetricHistoryBulkInterval": """
query GetMetricHistoryBulkInterval($data: MlflowGetMetricHistoryBulkIntervalInput!)
@component(name: "MLflow.ExperimentRunTracking") {
  mlflowGetMetricHistoryBulkInterval(input: $data) {
    __typename
    metrics {
      timestamp
      step
      runId
      key
      value
    }
    apiError {
      code
      message
    }
  }
}
""",
    "SearchRuns": """
query SearchRuns($data: MlflowSearchRunsInput!) {
  mlflowSearchRuns(input: $data) {
    apiError {
      helpUrl
      code
      message
    }
    runs {
      info {
        runName
        status
        runUuid
        experimentId
        artifactUri
        endTime
        lifecycleStage
        startTime
        userId
      }
      experiment {
        experimentId
        name
        tags {
          key
          value
        }
        artifactLocation
        lifecycleStage
        lastUpdateTime
      }
      data {
        metrics {
          key
          value
          step
          timestamp
        }
        params {
          key
          value
        }
        tags {
          key
          value
        }
      }
      inputs {
        datasetInputs {
          dataset {
            digest
            name
            profile
            schema
            source
            sourceType
          }
          tags {
            key
            value
          }
        }
        modelInputs {
          modelId
        }
      }
      outputs {
        modelOutputs {
          modelId
          step
        }
      }
      modelVersions {
        version
        name
        creationTimestamp
        status
        source
      }
    }
  }
}
""",
}


def with_typenames(document: str) -> str:
    """Ask for `__typename` in each nested selection, as Apollo does in the browser: its cache needs it."""
    inner, last, rest = document.rpartition("}")
    return inner.replace("}", "__typename }") + last + rest
