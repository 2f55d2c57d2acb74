package operator

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/crier-im/crier"
)

// planMost bounds the plan of a recovery: 1,024 partitions, each with the ids of some nodes.
const planMost = 4 << 20

// Cluster is what the operator's API needs of the cluster. Errors carry crier.CodeBadParameter and say what is wrong with the node, or
// crier.CodeTimeout where nobody leads the system group.
type Cluster interface {
	// Status tells what the cluster looks like to its coordinator.
	Status(ctx context.Context) (*crier.ClusterStatus, error)
	// Drain begins to move everything off a node.
	Drain(ctx context.Context, node string) error
	// CancelDrain lets it stay.
	CancelDrain(ctx context.Context, node string) error
	// Remove gives up a dead node.
	Remove(ctx context.Context, node string) error
	// Rebalance evens out at once who leads what.
	Rebalance(ctx context.Context) error
	// PlanRecovery tells what there is to recover; with force, also what should elect a leader by itself.
	PlanRecovery(ctx context.Context, force bool) (*crier.Recovery, error)
	// Recover does what a plan says; crier.CodeBadParameter where there would be another one by now. It blocks.
	Recover(ctx context.Context, plan *crier.Recovery, force bool) error
}

func (a *API) clusterStatus(c *gin.Context) {
	status, err := a.cluster.Status(c.Request.Context())
	if err != nil {
		fail(c, err)
		return
	}
	c.JSON(http.StatusOK, status)
}

func (a *API) drainNode(c *gin.Context) {
	answerBegun(c, a.cluster.Drain(c.Request.Context(), c.Param("node")))
}

func (a *API) cancelDrain(c *gin.Context) {
	answerBegun(c, a.cluster.CancelDrain(c.Request.Context(), c.Param("node")))
}

func (a *API) removeNode(c *gin.Context) {
	answerBegun(c, a.cluster.Remove(c.Request.Context(), c.Param("node")))
}

func (a *API) rebalance(c *gin.Context) {
	answerBegun(c, a.cluster.Rebalance(c.Request.Context()))
}

func (a *API) planRecovery(c *gin.Context) {
	plan, err := a.cluster.PlanRecovery(c.Request.Context(), c.Query("force") == "true")
	if err != nil {
		fail(c, err)
		return
	}
	c.JSON(http.StatusOK, plan)
}

// recoverCluster takes the plan that was answered before.
func (a *API) recoverCluster(c *gin.Context) {
	plan := new(crier.Recovery)
	body, err := readUpTo(c, planMost)
	if err == nil {
		err = decode(body, plan)
	}
	if err == nil {
		err = a.cluster.Recover(c.Request.Context(), plan, c.Query("force") == "true")
	}
	if err != nil {
		fail(c, err)
		return
	}
	c.JSON(http.StatusOK, gin.H{})
}

// answerBegun answers that something has begun, which the status shows.
func answerBegun(c *gin.Context, err error) {
	if err != nil {
		fail(c, err)
		return
	}
	c.JSON(http.StatusAccepted, gin.H{})
}
