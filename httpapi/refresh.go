package httpapi

import "net/http"

// refresh has the node's cluster polled at once. It takes no body and changes no
// verdict, so it needs no permission.
func (s *Server) refresh(w http.ResponseWriter, r *http.Request) {
	if err := s.sup.Refresh(r.PathValue("cluster"), r.PathValue("node")); err != nil {
		s.writeQuestionError(w, r, err)
		return
	}
	writeJSON(w, r, http.StatusAccepted, map[string]string{"refresh": r.PathValue("node")})
}

// refreshByToken is refresh for Patroni's hooks, on the frontend where there is an
// operator's listener.
func (s *Server) refreshByToken(w http.ResponseWriter, r *http.Request) {
	if s.settings.Load().Token == "" {
		operatorOnly(w, r)
	} else if s.authorized(w, r) {
		s.refresh(w, r)
	}
}
