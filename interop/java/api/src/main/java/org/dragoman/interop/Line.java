package org.dragoman.interop;

import java.io.Serializable;
import java.math.BigDecimal;

/** A line of an order. */
public class Line implements Serializable {
    private static final long serialVersionUID = 1L;

    private String article;
    private int count;
    private BigDecimal price;

    public Line() {}

    public Line(String article, int count, BigDecimal price) {
        this.article = article;
        this.count = count;
        this.price = price;
    }

    public String getArticle() {
        return article;
    }

    public void setArticle(String article) {
        this.article = article;
    }

    public int getCount() {
        return count;
    }

    public void setCount(int count) {
        this.count = count;
    }

    public BigDecimal getPrice() {
        return price;
    }

    public void setPrice(BigDecimal price) {
        this.price = price;
    }
}
