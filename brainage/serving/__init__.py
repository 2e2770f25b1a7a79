"""Run the page's server: queue, guard, models. No Streamlit."""
